"""Sweeps: many configurations trained side by side, scored and compared."""
