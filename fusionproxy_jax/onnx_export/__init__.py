"""A Flax student as ONNX files that run everywhere; needs the `train` extra."""

from fusionproxy_jax.onnx_export.export import export_student

__all__ = ["export_student"]
