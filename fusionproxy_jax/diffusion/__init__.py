"""Diffusion: noise schedules, DDIM, denoisers. Knows nothing of fusion."""
