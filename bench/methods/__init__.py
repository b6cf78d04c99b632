"""Explanation methods behind one interface: ``(images, class_index) -> maps (B, h, w)``."""
