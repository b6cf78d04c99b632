"""Precision passes: from the FP32 graph to FP16 and INT8 graphs that were proven on real photos."""
