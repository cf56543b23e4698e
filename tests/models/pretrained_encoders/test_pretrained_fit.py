import re

import jax
import numpy as np
import pytest
import torch
from models.published_files import KINDS, changed, write

from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.pretrained_encoders.loading import load_pretrained_encoders


def _loaded(tmp_path, kind, student=None, state=None):
    published = KINDS[kind]()
    path = write(tmp_path / "weights.safetensors", state or published.state)
    return load_pretrained_encoders(path, student or published.student)


def _refusal(*arguments, **options):
    with pytest.raises(FusionProxyError) as caught:
        _loaded(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "weights.safetensors" in message
    return message


def _counts(report):
    """Returns tensors used, tensors there, parameters set, parameters in all."""
    used, there, have, all_ = re.search(
        r"(\d+) of its (\d+) tensors set (?:all |([\d,]+) of )([\d,]+) parameters",
        report,
    ).groups()
    return tuple(int(n.replace(",", "")) for n in (used, there, have or all_, all_))


def _size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_counts_what_was_loaded(tmp_path, kind):
    loaded = _loaded(tmp_path, kind)
    used, there, have, all_ = _counts(loaded.report)
    assert there == len(KINDS[kind]().state) > used
    assert have == all_ == _size(loaded.visible)
    assert "new are" not in loaded.report
    assert loaded.report.startswith("both encoders start from weights.safetensors,")
    stem = loaded.visible["stem"]["kernel"]
    np.testing.assert_allclose(
        loaded.infrared["stem"]["kernel"],
        np.sum(stem, axis=2, keepdims=True),
        rtol=1e-5,
        atol=1e-6,
    )
    assert _size(loaded.infrared) == have - stem.size * 2 // 3


def test_attention_where_the_file_has_none_starts_new(tmp_path):
    """A shorter stage attends in its own last two blocks."""
    kind = "efficientformer_v2"
    student = changed(kind, widths=(4, 6, 8), depths=(1, 1, 2))
    whole, fewer = _loaded(tmp_path, kind), _loaded(tmp_path, kind, student)
    _, _, have, all_ = _counts(fewer.report)
    assert have == _size(fewer.visible) < all_
    assert (
        "; new are stage2_block0_attention, stage2_block0_attention_scale"
        in fewer.report
    )
    expected = flatten(whole.visible)
    for path, value in flatten(fewer.visible).items():
        np.testing.assert_array_equal(value, expected[path])
    assert "stage2_block1_attention" in fewer.visible


def test_what_of_convnext_has_no_place_is_told(tmp_path):
    kind = "convnext_v2 of timm"
    published = _loaded(tmp_path, kind)
    assert "norm and first stage have no place here" in published.report
    assert "pixels" not in published.report
    finer = _loaded(tmp_path, kind, changed(kind, stem_stride=2))
    assert "the stem moves 2 pixels instead of 4" in finer.report
    jax.tree.map(np.testing.assert_array_equal, finer.visible, published.visible)


@pytest.mark.parametrize(
    ("kind", "changes", "flags"),
    [
        ("mobilenet_v4", {"stem_width": 6}, "--student.stem-width 8"),
        ("mobilenet_v4", {"widths": (8, 10, 13)}, "--student.widths 8 10 12"),
        (
            "mobilenet_v4",
            {"normalization": "layer", "activation": "gelu"},
            "--student.normalization affine --student.activation relu",
        ),
        (
            "efficientformer_v2",
            {"depths": (3, 3, 3, 2)},
            "--student.depths 1 1 3 2",
        ),
        (
            "convnext_v2 of timm",
            {"normalization": "affine", "kernel_size": 3},
            "--student.normalization layer --student.kernel-size 7",
        ),
        (
            "convnext_v2 of transformers",
            {"response_norm": False, "expansion": 2},
            "--student.expansion 4 --student.response-norm",
        ),
        (
            "convnext_v2 of transformers",
            {"widths": (6, 8, 6, 6), "depths": (2, 4, 1, 1)},
            "--student.widths 6 8 6 --student.depths 2 3 1",
        ),
    ],
)
def test_a_student_that_differs_is_told_what_would_fit(tmp_path, kind, changes, flags):
    message = _refusal(tmp_path, kind, changed(kind, **changes))
    assert message.endswith(f"give `{flags}`")
    for name, value in changes.items():
        assert f"{name} {value!r}" in message


def test_a_student_with_another_encoder_is_told_all_that_it_takes(tmp_path):
    message = _refusal(tmp_path, "mobilenet_v4", StudentConfig())
    assert message.endswith(
        "give `--student.encoder mobilenet_v4 --student.stem-width 8 "
        "--student.widths 8 10 12 --student.depths 1 2 3 "
        "--student.normalization affine --student.activation relu`"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_block_in_use_must_be_there(tmp_path, kind):
    state = dict(KINDS[kind]().state)
    missing = [key for key in state if re.search(r"\b1\.(blocks|layers|0)\.", key)][3]
    del state[missing]
    message = _refusal(tmp_path, kind, state=state)
    assert f"it lacks {missing.removeprefix('convnextv2.')}" in message


def test_a_tensor_unknown_in_a_block_in_use_is_refused(tmp_path):
    kind = "mobilenet_v4"
    state, scale = KINDS[kind]().state, torch.ones(10)
    # As the hybrid networks have it.
    later = {**state, "blocks.2.3.layer_scale.gamma": scale}
    known = _loaded(tmp_path, kind).visible
    jax.tree.map(
        np.testing.assert_array_equal, _loaded(tmp_path, kind, None, later)[0], known
    )
    used = {**state, "blocks.2.0.layer_scale.gamma": scale}
    message = _refusal(tmp_path, kind, state=used)
    assert "it has unknown 'blocks.2.0.layer_scale.gamma'" in message


def test_a_file_of_another_network_is_refused(tmp_path):
    state = {"features.0.weight": torch.zeros(4, 3, 3, 3)}
    message = _refusal(tmp_path, "mobilenet_v4", state=state)
    assert "holds no encoder that a student can start from" in message
    assert "ConvNeXt V2 of transformers" in message


def test_names_of_data_parallel_training_are_the_same_network(tmp_path):
    kind = "convnext_v2 of transformers"
    state = {f"module.{key}": tensor for key, tensor in KINDS[kind]().state.items()}
    wrapped = _loaded(tmp_path, kind, state=state)
    jax.tree.map(
        np.testing.assert_array_equal, wrapped.visible, _loaded(tmp_path, kind).visible
    )
