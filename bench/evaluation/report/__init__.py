"""Showing evaluations: tables, pictures and one self-contained page."""
