"""TensorRT and TensorRT for RTX: building plans, and checking them before they are ever loaded."""
