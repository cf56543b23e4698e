import hashlib
import os
import tracemalloc

import jax
import numpy as np
import pytest
import torch
from checkpoints.small_network import (
    TABLE,
    Leaf,
    expected,
    template,
    tensors,
    write,
)
from flax import linen as nn

from fusionproxy_jax.checkpoints import conversion
from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile, open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert, convert_cached
from fusionproxy_jax.errors import FusionProxyError


def _forbid_reading(monkeypatch):
    def read(self, name):
        raise AssertionError(f"{name} was read again")

    monkeypatch.setattr(CheckpointFile, "read", read)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_parameters_are_the_files_tensors_in_flax_layout(tmp_path, form):
    with open_checkpoint(write(tmp_path / "a.pt", tensors(), form=form)) as source:
        params = convert(source, TABLE, template())
    np.testing.assert_equal(params, expected(tensors()))
    assert all(leaf.flags.c_contiguous for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_parameters_have_the_type_asked_for_in_both_ways(tmp_path, dtype):
    path = write(tmp_path / "a.pt", tensors())
    with open_checkpoint(path) as source:
        params = convert(source, TABLE, template(), dtype=dtype)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
    for _ in range(2):
        kept = convert_cached(path, TABLE, template(), dtype=dtype)
        jax.tree.map(
            lambda a, b: np.testing.assert_array_equal(a, b, strict=True), params, kept
        )


class _Network(nn.Module):
    @nn.compact
    def __call__(self, image):
        image = nn.Conv(4, (3, 3), padding="VALID", name="conv")(image)
        image = nn.GroupNorm(2, epsilon=1e-5, name="norm")(image)
        return nn.Dense(5, name="dense")(image.mean((1, 2)))


def test_a_network_of_torch_computes_the_same_in_flax(tmp_path):
    torch.manual_seed(0)
    layers = torch.nn.ModuleDict(
        {
            "conv": torch.nn.Conv2d(3, 4, 3),
            "norm": torch.nn.GroupNorm(2, 4),
            "dense": torch.nn.Linear(4, 5),
        }
    )
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter)
    torch.save({"model": layers.state_dict()}, tmp_path / "a.pt")
    image = np.random.default_rng(0).standard_normal((2, 8, 9, 3)).astype(np.float32)
    table = {
        "conv.weight": ("params/conv/kernel", "conv"),
        "conv.bias": ("params/conv/bias", "as_is"),
        "norm.weight": ("params/norm/scale", "as_is"),
        "norm.bias": ("params/norm/bias", "as_is"),
        "dense.weight": ("params/dense/kernel", "linear"),
        "dense.bias": ("params/dense/bias", "as_is"),
    }
    shapes = jax.eval_shape(_Network().init, jax.random.key(0), image)
    params = convert_cached(tmp_path / "a.pt", table, shapes)
    with torch.no_grad():
        features = layers["norm"](
            layers["conv"](torch.tensor(image).permute(0, 3, 1, 2))
        )
        theirs = layers["dense"](features.mean((2, 3)))
    ours = _Network().apply(params, image)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_memory_holds_the_result_and_about_one_tensor(tmp_path):
    shape, number = (500, 1000), 12
    given = {f"{n}": np.full(shape, n, np.float32) for n in range(number)}
    table = {name: (name, "linear") for name in given}
    shapes = {name: Leaf(shape[::-1]) for name in given}
    path, one = write(tmp_path / "a.pt", given), given["0"].nbytes
    del given
    peaks = {}
    with open_checkpoint(path) as source:
        tracemalloc.start()
        try:
            convert(source, table, shapes)
            peaks["whole"] = tracemalloc.get_traced_memory()[1]
            # What is written to disk is not kept: loading it is left out here.
            steps = conversion.plan_conversion(source, table, shapes)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for tensor in conversion.converted_tensors(source, steps, "float32"):
                del tensor
            peaks["streamed"] = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
    assert peaks["whole"] < (number + 1.5) * one
    # The tensor as read, and turned.
    assert peaks["streamed"] < 2.5 * one


def test_a_misfit_converts_and_writes_nothing(tmp_path):
    given = tensors()
    del given["stem.bias"]
    path = write(tmp_path / "a.pt", given)
    with pytest.raises(FusionProxyError, match="lacks stem.bias"):
        convert_cached(path, TABLE, template())
    given = tensors()
    given["stem.weight"][0] = 1e30
    write(path, given)
    with pytest.raises(FusionProxyError, match="too large"):
        convert_cached(path, TABLE, template(), dtype="float16")
    assert os.listdir(tmp_path) == ["a.pt"]


def test_the_converted_file_lies_beside_its_source_named_by_content(tmp_path):
    path = write(tmp_path / "weights.v1.pt", tensors())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    convert_cached(path, TABLE, template())
    convert_cached(path, TABLE, template(), dtype="float16")
    assert sorted(os.listdir(tmp_path)) == [
        f"weights.v1-{digest}-float16.safetensors",
        f"weights.v1-{digest}.safetensors",
        "weights.v1.pt",
    ]


def test_the_second_time_no_tensor_of_the_source_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    _forbid_reading(monkeypatch)
    np.testing.assert_equal(
        convert_cached(path, TABLE, template()), expected(tensors())
    )


def test_a_changed_source_is_converted_anew(tmp_path):
    path, changed = write(tmp_path / "a.pt", tensors()), tensors()
    convert_cached(path, TABLE, template())
    changed["stem.bias"] += 1
    write(path, changed)
    np.testing.assert_equal(convert_cached(path, TABLE, template()), expected(changed))


def test_changed_rules_are_converted_anew(tmp_path):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    table = TABLE | {
        "stem.bias": TABLE["blocks.0.norm.weight"],
        "blocks.0.norm.weight": TABLE["stem.bias"],
    }
    params = convert_cached(path, table, template())["params"]
    np.testing.assert_array_equal(
        params["block_0"]["norm"]["scale"], tensors()["stem.bias"]
    )


def test_a_new_converter_converts_anew(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    monkeypatch.setattr(conversion, "CONVERTER_VERSION", 2)
    _forbid_reading(monkeypatch)
    with pytest.raises(AssertionError, match="read again"):
        convert_cached(path, TABLE, template())


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def _emptied(path):
    path.write_bytes(b"")


def _of_another_program(path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, path)


@pytest.mark.parametrize("spoil", [_cut, _emptied, _of_another_program])
def test_a_spoiled_conversion_is_made_again(tmp_path, spoil):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    (kept,) = tmp_path.glob("*.safetensors")
    right = kept.read_bytes()
    spoil(kept)
    np.testing.assert_equal(
        convert_cached(path, TABLE, template()), expected(tensors())
    )
    assert kept.read_bytes() == right


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch):
    path, read = write(tmp_path / "a.pt", tensors()), CheckpointFile.read

    def interrupted(self, name):
        if name == "stem.bias":
            raise KeyboardInterrupt
        return read(self, name)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(CheckpointFile, "read", interrupted)
        convert_cached(path, TABLE, template())
    assert os.listdir(tmp_path) == ["a.pt"]
    np.testing.assert_equal(
        convert_cached(path, TABLE, template()), expected(tensors())
    )


def test_a_killed_conversion_is_not_used(tmp_path):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    (kept,) = tmp_path.glob("*.safetensors")
    # What a killed process leaves: a part, under the hidden name.
    part = kept.with_name(f".{kept.stem}.0123abcd.tmp.safetensors")
    part.write_bytes(kept.read_bytes()[:100])
    kept.unlink()
    np.testing.assert_equal(
        convert_cached(path, TABLE, template()), expected(tensors())
    )


def test_a_named_folder_is_made_and_used(tmp_path):
    path, folder = write(tmp_path / "a.pt", tensors()), tmp_path / "deep" / "cache"
    convert_cached(path, TABLE, template(), cache_dir=folder)
    assert len(list(folder.glob("a-*.safetensors"))) == 1
    assert list(tmp_path.glob("*.safetensors")) == []


def _read_only(monkeypatch, folder):
    """As a mounted archive; permissions do not bind the administrator."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != folder and access(path, mode)
    )


def test_beside_a_source_in_a_read_only_folder_the_users_cache_is_used(
    tmp_path, monkeypatch
):
    folder = tmp_path / "archive"
    folder.mkdir()
    path = write(folder / "a.pt", tensors())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _read_only(monkeypatch, folder)
    params = convert_cached(path, TABLE, template())
    assert os.listdir(folder) == ["a.pt"]
    assert len(list((tmp_path / "cache/fusionproxy").glob("a-*.safetensors"))) == 1
    _forbid_reading(monkeypatch)
    np.testing.assert_equal(convert_cached(path, TABLE, template()), params)


def test_without_a_named_cache_it_is_in_the_home_folder(tmp_path, monkeypatch):
    folder = tmp_path / "archive"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    _read_only(monkeypatch, folder)
    convert_cached(write(folder / "a.pt", tensors()), TABLE, template())
    assert len(list((tmp_path / ".cache/fusionproxy").iterdir())) == 1


def test_a_conversion_beside_a_read_only_source_is_used(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pt", tensors())
    convert_cached(path, TABLE, template())
    _read_only(monkeypatch, tmp_path)
    _forbid_reading(monkeypatch)
    np.testing.assert_equal(
        convert_cached(path, TABLE, template()), expected(tensors())
    )


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    path = write(tmp_path / "a.pt", tensors())
    with pytest.raises(FusionProxyError, match="could not make the folder"):
        convert_cached(path, TABLE, template(), cache_dir=path / "below")


def test_a_missing_source_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="there is no checkpoint file"):
        convert_cached(tmp_path / "none.pt", TABLE, template())
