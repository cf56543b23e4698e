"""Fusing images without JAX: NumPy, ONNX Runtime and Pillow only."""
