"""Loss terms of the paper as pure functions, one equation a file (Eqs. 7, 8, 10-12)."""
