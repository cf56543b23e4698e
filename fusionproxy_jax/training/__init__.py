"""Distillation: state, pure step, data parallelism, checkpoints, loop."""
