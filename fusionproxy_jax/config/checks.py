"""How a configuration refuses a value."""

from fusionproxy_jax.errors import FusionProxyError


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Refuses a setting in one sentence: its name, its value, what it must be."""
    if not condition:
        raise FusionProxyError(f"{name} is {value!r}; it must be {allowed}")
