"""Losses are held to strict dtype promotion: no float64 or integer slips in."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield
