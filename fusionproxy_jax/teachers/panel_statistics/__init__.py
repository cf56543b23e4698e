"""What the foundation panel sees in the teacher samples of a cache: Eqs. 6, 8 and 9."""
