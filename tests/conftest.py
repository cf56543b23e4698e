"""Shared fixtures: two CPU devices, strict ranks, and the optional real pairs."""

import os
from pathlib import Path

import pytest

# Before JAX starts: data-parallel code is tested on any laptop.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# What weights a machine happens to hold must not decide what panel `auto` is. The hub's
# library reads its variables once, when it is imported.
os.environ["HF_HUB_CACHE"] = os.path.join(os.sep, "no", "such", "hub", "cache")
os.environ["HF_HUB_OFFLINE"] = "1"
MODELS = os.environ.pop("FUSIONPROXY_MODELS", None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real infrared-visible pairs, named by FUSIONPROXY_DATA."""
    path = os.environ.get("FUSIONPROXY_DATA")
    if not path:
        pytest.skip("FUSIONPROXY_DATA names no folder of real pairs")
    return Path(path)


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Folder of two frozen COCO detectors (ONNX), named by FUSIONPROXY_MODELS.

    Without it, the folder `models` beside the one of the pairs.
    """
    data = os.environ.get("FUSIONPROXY_DATA")
    path = Path(MODELS) if MODELS else Path(data or "") / ".." / "models"
    if not (MODELS or data) or not path.is_dir():
        pytest.skip("FUSIONPROXY_MODELS names no folder of detectors")
    return path.resolve()
