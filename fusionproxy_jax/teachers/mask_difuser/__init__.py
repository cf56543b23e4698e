"""Mask-DiFuser: one clean image from two partly useful views of it."""
