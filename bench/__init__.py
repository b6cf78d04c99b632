"""Measuring: how fast graphs and servers are, and how faithful maps are, beside other methods'.

The methods, the measures and the evaluations that put them together stand in packages of their
own; the page of ``ptame app`` shows them for one photo.
"""
