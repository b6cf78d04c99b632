"""Triton: model repositories made from artifacts, and a client that draws what a server answers."""
