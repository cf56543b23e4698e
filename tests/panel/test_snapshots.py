import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
import torch
from panel.tiny_panel import (
    BEFORE_TAP,
    TABLE,
    add_snapshot,
    add_weights,
    tensors,
    tiny_model,
    write,
)
from safetensors.numpy import save

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.snapshots import (
    check_weights,
    find_weights,
    load_parameters,
    open_weights,
    weights_at,
)
from fusionproxy_jax.panel.vgg16 import VGG16, Vgg16Config

MODEL = tiny_model()
INDEX = "model.safetensors.index.json"
SHARDS = {
    "model-00001-of-00002.safetensors": ("stem.weight", "head.bias"),
    "model-00002-of-00002.safetensors": (
        "stem.bias",
        "body.weight",
        "body.bias",
        "head.weight",
    ),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _sharded(given):
    """Content of the files of a sharded snapshot."""
    files = {
        shard: save({name: given[name] for name in names})
        for shard, names in SHARDS.items()
    }
    places = {name: shard for shard, names in SHARDS.items() for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    return files | {INDEX: json.dumps(index).encode()}


def _write_all(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _expected(given):
    """The parameters up to the tap, by index."""
    return {
        part: {
            "kernel": np.einsum("oihw->hwio", given[f"{part}.weight"]),
            "bias": given[f"{part}.bias"],
        }
        for part in ("stem", "body")
    }


def test_weights_are_found_through_the_links_of_the_hub_cache(cache):
    assert find_weights(MODEL.repository) is None
    path = add_weights(cache, MODEL)
    assert find_weights(MODEL.repository) == path
    np.testing.assert_equal(load_parameters(MODEL, path), _expected(tensors()))


def test_a_link_whose_file_is_gone_is_no_weights(cache):
    path = add_weights(cache, MODEL)
    path.resolve().unlink()
    assert find_weights(MODEL.repository) is None


def test_safetensors_go_before_torch_files_which_do_as_well(cache):
    snapshot = add_snapshot(cache, MODEL.repository, {"pytorch_model.bin": b"bin"})
    assert find_weights(MODEL.repository) == snapshot / "pytorch_model.bin"
    path = add_weights(cache, MODEL)
    assert find_weights(MODEL.repository) == path


@pytest.mark.parametrize(
    ("variable", "below"), [("HF_HUB_CACHE", "."), ("HF_HOME", "hub")]
)
def test_environment_variables_say_where_the_cache_is(tmp_path, variable, below):
    path = add_weights(tmp_path / "here" / below, MODEL)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    code = (
        "from fusionproxy_jax.panel.snapshots import find_weights; "
        f"print(find_weights({MODEL.repository!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {variable: str(tmp_path / "here")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert os.path.samefile(done.stdout.strip(), path)


def test_a_sharded_snapshot_is_one_file_in_parts(cache):
    snapshot = add_snapshot(cache, MODEL.repository, _sharded(tensors()))
    assert find_weights(MODEL.repository) == snapshot / INDEX
    params = load_parameters(MODEL, snapshot / INDEX)
    np.testing.assert_equal(params, _expected(tensors()))
    with open_weights(snapshot / INDEX) as source:
        assert set(source.keys()) == set(TABLE)
        assert source.shape("head.weight") == (2, 4)


def test_a_snapshot_that_lacks_a_shard_is_not_there(cache):
    files = _sharded(tensors())
    del files["model-00002-of-00002.safetensors"]
    snapshot = add_snapshot(cache, MODEL.repository, files)
    assert find_weights(MODEL.repository) is None
    with pytest.raises(FusionProxyError, match="no checkpoint file.*00002-of-00002"):
        load_parameters(MODEL, snapshot / INDEX)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    files = _sharded(tensors())
    files["model-00001-of-00002.safetensors"] = save(tensors())
    _write_all(tmp_path, files)
    with pytest.raises(FusionProxyError, match="00001.*00002.*both hold"):
        check_weights(MODEL, tmp_path / INDEX)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "no index of safetensors files, or damaged"),
        (b"[]", "no index of safetensors files, or damaged"),
        (b'{"weight_map": {"a": 3}}', "no index of safetensors files, or damaged"),
        (b'{"weight_map": {"a": "../b.safetensors"}}', "outside its own folder"),
    ],
)
def test_a_bad_index_is_one_sentence(cache, content, sentence):
    snapshot = add_snapshot(cache, MODEL.repository, {INDEX: content})
    # Said by whoever opens it, not by whoever only looks.
    assert find_weights(MODEL.repository) == snapshot / INDEX
    with pytest.raises(FusionProxyError, match=sentence):
        check_weights(MODEL, snapshot / INDEX)


def test_a_path_is_a_file_or_the_folder_of_one(tmp_path):
    path = write(tmp_path / "model.safetensors", tensors())
    assert weights_at(str(path)) == weights_at(str(tmp_path)) == path
    path.rename(tmp_path / "other.safetensors")
    with pytest.raises(FusionProxyError, match="holds none of model.safetensors"):
        weights_at(tmp_path)
    with pytest.raises(FusionProxyError, match="there are no weights at"):
        weights_at(tmp_path / "none.pth")


def test_prefixes_and_ignored_keys_make_no_difference(tmp_path):
    given = {f"tiny.{name}": values for name, values in tensors().items()}
    given["classifier.weight"] = np.zeros((3, 3), np.float32)
    given["tiny.stem.position_ids"] = np.arange(3)
    params = load_parameters(MODEL, write(tmp_path / "a.safetensors", given))
    np.testing.assert_equal(params, _expected(tensors()))


def test_half_precision_files_give_float32_parameters(tmp_path):
    given = {name: values.astype(np.float16) for name, values in tensors().items()}
    params = load_parameters(MODEL, write(tmp_path / "a.safetensors", given))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    np.testing.assert_array_equal(params["stem"]["bias"], given["stem.bias"])


@pytest.mark.parametrize("key", TABLE)
def test_a_missing_key_is_named_also_behind_the_tap(tmp_path, key):
    given = tensors()
    del given[key]
    path = write(tmp_path / "a.safetensors", given)
    for read in (load_parameters, check_weights):
        with pytest.raises(FusionProxyError, match=f"lacks {key} "):
            read(MODEL, path)


def test_an_unknown_key_is_named(tmp_path):
    given = tensors() | {"body.gain": np.ones(4, np.float32)}
    with pytest.raises(FusionProxyError, match="unknown 'body.gain'"):
        load_parameters(MODEL, write(tmp_path / "a.safetensors", given))


@pytest.mark.parametrize("key", TABLE)
def test_a_tensor_of_another_shape_is_named_also_behind_the_tap(tmp_path, key):
    given = tensors()
    given[key] = np.concatenate([given[key], given[key]])
    with pytest.raises(FusionProxyError, match=f"shapes or types differ in {key} "):
        load_parameters(MODEL, write(tmp_path / "a.safetensors", given))


def test_only_tensors_up_to_the_tap_are_read(tmp_path, monkeypatch):
    read, names = CheckpointFile.read, []

    def reading(self, name):
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(CheckpointFile, "read", reading)
    path = write(tmp_path / "a.safetensors", tensors())
    check_weights(MODEL, path)
    assert names == []
    load_parameters(MODEL, path)
    assert sorted(names) == sorted(BEFORE_TAP)


def test_a_file_cut_short_is_found_out_without_reading_values(tmp_path):
    path = write(tmp_path / "a.safetensors", tensors())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FusionProxyError, match="truncated"):
        check_weights(MODEL, path)


def test_torch_files_are_read_without_torch(tmp_path):
    given = {name: torch.from_numpy(values) for name, values in tensors().items()}
    torch.save(given | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "a.pth")
    params = load_parameters(MODEL, tmp_path / "a.pth")
    np.testing.assert_equal(params, _expected(tensors()))


@pytest.mark.parametrize("legacy", [True, False])
def test_torchvisions_vgg_file_is_read_up_to_the_tap(tmp_path, legacy):
    widths = (2, 3, 4, 5, 6)
    model = replace(VGG16, config=Vgg16Config(widths=widths))
    channels = [
        3,
        *(w for w, n in zip(widths, (2, 2, 3, 3, 3), strict=True) for _ in range(n)),
    ]
    # Behind every convolution comes a ReLU, behind every stage a maximum as well.
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    given = {
        "classifier.0.weight": torch.zeros(3, 6),
        "classifier.0.bias": torch.ones(3),
    }
    for place, (inputs, outputs) in zip(places, pairwise(channels), strict=True):
        given[f"features.{place}.weight"] = torch.randn(outputs, inputs, 3, 3)
        given[f"features.{place}.bias"] = torch.randn(outputs)
    path = tmp_path / "vgg16-397923af.pth"
    torch.save(given, path, _use_new_zipfile_serialization=not legacy)
    params = load_parameters(model, path)
    # relu3_3 is that of the seventh convolution.
    assert len(params) == 7
    np.testing.assert_array_equal(
        params["conv3_3"]["kernel"], given["features.14.weight"].permute(2, 3, 1, 0)
    )
    del given["features.28.bias"]
    torch.save(given, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FusionProxyError, match="lacks features.28.bias"):
        load_parameters(model, path)


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_torch_files_that_would_run_code_are_refused(tmp_path):
    torch.save({"stem.bias": _Touch(tmp_path / "touched")}, tmp_path / "a.pth")
    with pytest.raises(FusionProxyError, match="a.pth"):
        load_parameters(MODEL, tmp_path / "a.pth")
    assert not (tmp_path / "touched").exists()
