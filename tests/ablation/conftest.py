"""Pairs of which some are held out, and a panel of two convolutions."""

from pathlib import Path

import numpy as np
import pytest
from ablation_setup import base_on
from PIL import Image
from tiny_graphs import write_strided_conv

from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    """Six pairs of 48x56 px, two of which the default holds out."""
    root = tmp_path_factory.mktemp("data") / "made_up"
    for name in ("visible", "infrared"):
        (root / name).mkdir(parents=True)
    for index in range(6):
        pair = synthetic_pair(index, height=48, width=56)
        infrared = np.round(255 * pair["infrared"]).astype(np.uint8)
        Image.fromarray(pair["visible"]).save(root / f"visible/{index}.png")
        Image.fromarray(infrared).save(root / f"infrared/{index}.png")
    return root


@pytest.fixture(scope="session")
def panel(tmp_path_factory) -> tuple[str, str]:
    """Entries of two backbones, one#y and two#y."""
    folder = tmp_path_factory.mktemp("networks")
    return (
        write_strided_conv(folder / "one.onnx"),
        write_strided_conv(folder / "two.onnx", 1),
    )


@pytest.fixture
def base(pairs, panel):
    return base_on(pairs, panel)
