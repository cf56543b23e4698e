"""TFDS builder of M3FD."""
