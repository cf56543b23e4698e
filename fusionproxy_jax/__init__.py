"""Real-time infrared-visible image fusion.

>>> from fusionproxy_jax import load
>>> fuse = load()
>>> rgb = fuse(visible, infrared)

Importing this package loads NumPy at most; JAX is loaded by the parts that train.
"""

__version__ = "0.1.0"

__all__ = ["FusionProxyError", "load"]

from fusionproxy_jax.errors import FusionProxyError


def __getattr__(name: str) -> object:
    """Loads the fusion runtime on first use."""
    if name == "load":
        from fusionproxy_jax.runtime.fuser import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
