"""Measuring: speed and memory of fused graphs, and the methods that they are compared with."""
