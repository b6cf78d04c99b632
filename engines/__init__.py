"""Runtimes that run fused graphs and classifiers."""
