"""Diffusion teachers, their ensemble statistics (Eqs. 4-5) and the teacher cache."""
