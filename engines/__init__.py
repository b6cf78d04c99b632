"""Running fused graphs: the runtimes, and what brings photos to them.

ONNX Runtime, TensorRT and PyTorch stand behind one interface (`engines.runtime`). On it: folders of
photos, archives of millions, an HTTP service, repositories for Triton, and a library for C++.
"""
