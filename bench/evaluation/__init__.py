"""Comparing explanation methods on the same photos: run, intervals, tables and one page."""
