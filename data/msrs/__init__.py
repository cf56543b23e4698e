"""TFDS builder of MSRS."""
