"""Pairs from folders and TFDS, synthetic pairs, grain loaders. NumPy out, no JAX."""
