"""`fusionproxy bench`: one file per kind of measurement, and the command over them."""

from fusionproxy_jax.commands.bench.command import Bench

__all__ = ["Bench"]
