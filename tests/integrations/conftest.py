import importlib
import os
import sys

import pytest
import scenic_double
from scenic_cases import NUM_IMAGES, SIDE, Convolution
from strided_backbones import tiny_backbone

from fusionproxy_jax.config import (
    DDFMConfig,
    PanelConfig,
    TeacherConfig,
)
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.teachers.cache import build_cache


@pytest.fixture(params=["double", "checkout"])
def scenic(request, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        monkeypatch.delitem(sys.modules, name)
    if request.param == "double":
        scenic_double.install(monkeypatch)
        yield
        return
    path = os.environ.get("FUSIONPROXY_SCENIC")
    if not path:
        pytest.skip("FUSIONPROXY_SCENIC names no checkout of google-research/scenic")
    monkeypatch.syspath_prepend(path)
    try:
        importlib.import_module("scenic.dataset_lib.datasets")
    except ModuleNotFoundError as error:
        pytest.skip(f"google-research/scenic needs {error.name}")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return build_cache(
        SyntheticPairs(NUM_IMAGES, height=SIDE, width=SIDE, seed=0),
        TeacherConfig(
            teachers=("average", "gaussian"),
            num_samples=1,
            ddfm=DDFMConfig(mode="balanced", num_steps=2),
            tile_px=SIDE,
        ),
        tmp_path_factory.mktemp("cache"),
        panel=[tiny_backbone("fine"), tiny_backbone("coarse", stride=8, seed=1)],
        panel_config=PanelConfig(grid=8),
        accept_failed_gate=True,
    )


@pytest.fixture
def tiny_student(monkeypatch):
    monkeypatch.setattr(
        "fusionproxy_jax.integrations.scenic.build_student",
        lambda config, *, dtype: Convolution(),
    )
