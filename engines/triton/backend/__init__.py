"""Code that runs inside Triton, by its Python backend; copied into model repositories."""
