"""Shared fixtures: two CPU devices, strict ranks, and the optional real pairs."""

import os
from pathlib import Path

import pytest

# Before JAX starts: data-parallel code is tested on any laptop.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real infrared-visible pairs, named by FUSIONPROXY_DATA."""
    path = os.environ.get("FUSIONPROXY_DATA")
    if not path:
        pytest.skip("FUSIONPROXY_DATA names no folder of real pairs")
    return Path(path)
