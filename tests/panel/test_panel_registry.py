import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from panel.tiny_panel import add_weights, tensors, tiny_model, write

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel import registry
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.registry import (
    FOUNDATION_MODELS,
    PAPER,
    load_backbones,
    locate,
    resolve,
)

# Files that exist, as entries must; what they hold is not looked at here.
HERE = Path(__file__).parent
COMPACT = [
    f"onnx:{HERE}/tiny_panel.py#7?order=bgr",
    f"onnx:{HERE}/test_snapshots.py#8",
]
MINE = f"onnx:{__file__}#5"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, no detectors, and tiny ports `one` and `two` (`paper`)."""
    models = {name: tiny_model(name) for name in ("one", "two", "three")}
    monkeypatch.setattr(registry, "FOUNDATION_MODELS", models)
    monkeypatch.setattr(registry, "PAPER", ("one", "two"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    _detectors(monkeypatch, None)
    return SimpleNamespace(
        add=lambda *names: [add_weights(tmp_path / "hub", models[n]) for n in names]
    )


def _detectors(monkeypatch, found):
    monkeypatch.setattr(registry, "find_compact", lambda: found)


def test_every_port_has_the_name_it_is_asked_for_by():
    assert set(PAPER) <= set(FOUNDATION_MODELS)
    assert {name: FOUNDATION_MODELS[name].name for name in FOUNDATION_MODELS} == {
        name: name for name in FOUNDATION_MODELS
    }
    repositories = [model.repository for model in FOUNDATION_MODELS.values()]
    assert len(set(repositories)) == len(repositories)
    assert all(model.licence for model in FOUNDATION_MODELS.values())


def test_the_registry_loads_no_framework_but_jax():
    code = (
        "import fusionproxy_jax.panel.registry as r, sys; list(r.FOUNDATION_MODELS); "
        "names = ('torch', 'transformers', 'onnx', 'huggingface_hub', "
        "'fusionproxy_jax.panel.sam'); print([n for n in names if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_paper_stands_for_its_backbones_and_mixes_with_others(cache, monkeypatch):
    cache.add("one", "two", "three")
    _detectors(monkeypatch, COMPACT)
    assert resolve(["paper"]) == ("one", "two")
    assert resolve(["three", "paper"]) == ("three", "one", "two")
    mixed = resolve(["compact", "three", MINE])
    assert mixed == (*COMPACT, "three", MINE)
    assert resolve(mixed) == mixed
    assert resolve([]) == ()


def test_auto_is_paper_if_complete_else_compact_if_there_else_nothing(
    cache, monkeypatch
):
    assert resolve(["auto"]) == ()
    cache.add("one", "three")
    assert resolve(["auto"]) == ()
    _detectors(monkeypatch, COMPACT)
    assert resolve(["auto"]) == tuple(COMPACT)
    cache.add("two")
    assert resolve(["auto"]) == ("one", "two")


@pytest.mark.parametrize(
    "backbones",
    [
        ["three", "three"],
        ["paper", "one"],
        ["one=a", "one=b"],
        ["auto", "two"],
        # Both would be features/net#1 in a cache.
        ["onnx:a/net.onnx#1", "onnx:b/net.onnx#1"],
    ],
)
def test_a_doubled_backbone_is_refused(cache, backbones):
    cache.add("one", "two", "three")
    with pytest.raises(FusionProxyError, match="twice; name every backbone once"):
        resolve(backbones)


@pytest.mark.parametrize("entry", ["four", "four=a.pth", "one=", "", "Paper"])
def test_an_unknown_backbone_is_told_the_known_ones(cache, entry):
    known = r"one, two, three .*NAME=PATH.*onnx:FILE#TENSOR.*paper, compact, auto"
    with pytest.raises(FusionProxyError, match=f"no backbone '{entry}'.*{known}"):
        resolve([entry])


def test_missing_weights_are_refused_with_the_command_before_any_work(
    cache, monkeypatch
):
    cache.add("one")

    def load(*arguments, **options):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(registry, "load_foundation_backbone", load)
    sentence = (
        r"weights of two, three are not on this machine \(here: one\); .*"
        r"`fusionproxy panel fetch two three`.*two=PATH"
    )
    for act in (resolve, load_backbones):
        with pytest.raises(FusionProxyError, match=sentence):
            act(["paper", "three"])


def test_missing_detectors_are_refused_with_the_command(cache):
    with pytest.raises(
        FusionProxyError, match="FUSIONPROXY_MODELS.*`fusionproxy panel fetch compact`"
    ):
        resolve(["compact"])


def test_named_files_are_used_instead_of_the_cache(cache, tmp_path):
    cache.add("one")
    path = write(tmp_path / "a.safetensors", tensors(seed=1))
    cached, named = load_backbones(["one"]), load_backbones([f"one={path}"])
    assert cached[0].name == named[0].name == "one"
    assert cached[0].fingerprint != named[0].fingerprint
    np.testing.assert_array_equal(
        named[0].params["stem"]["bias"], tensors(seed=1)["stem.bias"]
    )
    with pytest.raises(FusionProxyError, match="no weights at .*none.pth"):
        resolve([f"one={tmp_path / 'none.pth'}"])


def test_a_missing_onnx_file_is_refused_before_any_work(cache):
    with pytest.raises(FusionProxyError, match="no ONNX file no/net.onnx for net#1"):
        resolve(["onnx:no/net.onnx#1"])


def test_backbones_come_in_the_order_of_their_names_ready_to_use(cache, monkeypatch):
    cache.add("one", "two")
    asked = []

    def load(spec, *, dtype):
        asked.append((spec, dtype))
        return Backbone(f"net{len(asked)}", "0" * 16, {}, lambda params, x: x)

    monkeypatch.setattr(registry, "load_onnx_backbone", load)
    _detectors(monkeypatch, COMPACT)
    panel = load_backbones(["two", "compact", "one"], dtype="bfloat16")
    assert [each.name for each in panel] == ["two", "net1", "net2", "one"]
    assert asked == [(spec, "bfloat16") for spec in COMPACT]
    assert panel[0].features(np.zeros((1, 9, 9, 3), np.float32)).shape == (1, 12, 6, 4)


def test_backbones_of_a_cache_are_found_by_their_names(cache, monkeypatch):
    assert locate("three") == "three"
    monkeypatch.setattr(
        registry,
        "COMPACT",
        (("tiny_panel.py", "7?order=bgr"), ("test_snapshots.py", "8")),
    )
    with pytest.raises(FusionProxyError, match="fetch compact"):
        locate("tiny_panel#7")
    _detectors(monkeypatch, COMPACT)
    assert [locate("test_snapshots#8"), locate("tiny_panel#7")] == COMPACT[::-1]
    with pytest.raises(FusionProxyError, match="mine#3.*panel.backbones.*onnx:FILE"):
        locate("mine#3")
