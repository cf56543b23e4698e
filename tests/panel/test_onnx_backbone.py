import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from onnx_models import node, run, save

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_backbone import (
    COMPACT,
    find_compact,
    load_onnx_backbone,
)

RNG = np.random.default_rng(11)
KERNELS = [
    RNG.normal(size=shape).astype(np.float32) / 4 for shape in ((6, 3, 3, 3), (4, 6))
]
IMAGES = RNG.uniform(size=(3, 18, 26, 3)).astype(np.float32)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _network(path, *, size=(12, 20), kernel=KERNELS[0]):
    """Writes two convolutions; a batch of one is part of a shape in the file."""
    nodes = [
        node("Conv", ["image", "first"], ["made"], strides=[2, 2], pads=[1] * 4),
        node("Sigmoid", ["made"], ["stage/1:out"]),
        node("Reshape", ["stage/1:out", "flat"], ["rows"]),
        node("MatMul", ["second", "rows"], ["mixed"]),
        node("GlobalAveragePool", ["stage/1:out"], ["pooled"]),
        node("Conv", ["stage/1:out", "square"], ["stage2"]),
    ]
    constants = {
        "first": kernel,
        "second": KERNELS[1],
        "square": KERNELS[1].reshape(4, 6, 1, 1),
        "flat": np.array([1, 6, -1], np.int64),
    }
    inputs = [("image", (1, 3, *size))]
    outputs = ["mixed", "pooled", "stage2"]
    return save(path, nodes, constants=constants, inputs=inputs, outputs=outputs)


def _features(backbone, images=IMAGES):
    compiled = jax.jit(
        backbone.apply, compiler_options={"xla_backend_optimization_level": 0}
    )
    return compiled(backbone.params, images)


def _seen(images, size, mean=MEAN, std=STD):
    """What a network sees, by PyTorch: [b, 3, h, w], RGB."""
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images.transpose(0, 3, 1, 2)), size, mode="bilinear"
    )
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (mean, std))
    return (resized.numpy() - mean) / std


def _by_onnxruntime(path, tensor, seen):
    maps = [run(path, [tensor], image[None])[0] for image in seen]
    return np.concatenate(maps).transpose(0, 2, 3, 1)


def test_features_are_those_of_onnxruntime_on_the_image_as_pytorch_resizes_it(tmp_path):
    path = _network(tmp_path / "net.onnx")
    backbone = load_onnx_backbone(f"onnx:{path}#stage2")
    features = _features(backbone)
    expected = _by_onnxruntime(path, "stage2", _seen(IMAGES, (12, 20)))
    assert features.shape == (3, 6, 10, 4) and features.dtype == jnp.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_a_network_of_any_size_sees_the_image_in_its_own(tmp_path):
    path = _network(tmp_path / "net.onnx", size=(None, None))
    backbone = load_onnx_backbone(f"onnx:{path}#stage2")
    expected = _by_onnxruntime(path, "stage2", _seen(IMAGES, IMAGES.shape[1:3]))
    features = _features(backbone)
    assert features.shape == (3, 9, 13, 4)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_settings_change_mean_deviation_order_and_range(tmp_path):
    path = _network(tmp_path / "net.onnx")
    settings = "mean=0.1,0.2,0.3&std=1,2,4&order=bgr&scale=255"
    backbone = load_onnx_backbone(f"onnx:{path}#stage2?{settings}")
    seen = _seen(IMAGES, (12, 20), (0.1, 0.2, 0.3), (1, 2, 4))[:, ::-1] * 255
    expected = _by_onnxruntime(path, "stage2", np.ascontiguousarray(seen))
    features = _features(backbone)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_gradients_in_the_images_are_those_of_finite_differences(tmp_path):
    path = _network(tmp_path / "net.onnx")
    backbone = load_onnx_backbone(f"onnx:{path}#stage2?order=bgr")
    weights = jnp.asarray(RNG.normal(size=(3, 6, 10, 4)), jnp.float32)
    total = jax.jit(lambda images: jnp.sum(weights * backbone.features(images)))
    gradient = np.asarray(jax.jit(jax.grad(total))(jnp.asarray(IMAGES)))
    assert np.all(np.abs(gradient).sum((1, 2)) > 0)
    step = 0.01 * np.sign(gradient) * RNG.uniform(0.5, 1, gradient.shape)
    change = float(total(IMAGES + step) - total(IMAGES - step)) / 2
    np.testing.assert_allclose(np.sum(gradient * step), change, rtol=2e-3)


def test_images_of_a_batch_do_not_touch_each_other(tmp_path):
    path = _network(tmp_path / "net.onnx")
    backbone = load_onnx_backbone(f"onnx:{path}#stage2")
    together = _features(backbone)
    for image, features in zip(IMAGES, together, strict=True):
        alone = _features(backbone, image[None])[0]
        np.testing.assert_allclose(alone, features, rtol=1e-5, atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_returns_float32(tmp_path):
    spec = f"onnx:{_network(tmp_path / 'net.onnx')}#stage2"
    exact, rough = (load_onnx_backbone(spec, dtype=d) for d in ("float32", "bfloat16"))
    assert {leaf.dtype for leaf in rough.params.values()} == {jnp.dtype(jnp.bfloat16)}
    program = str(jax.make_jaxpr(rough.apply)(rough.params, IMAGES))
    assert "bf16[3,1,6,6,10]" in program and "f32[3,1,6,6,10]" not in program
    features, expected = (_features(backbone) for backbone in (rough, exact))
    assert features.dtype == jnp.float32
    difference = np.abs(features - expected).max()
    assert 0 < difference < 0.03 * np.abs(expected).max()
    assert rough.fingerprint == exact.fingerprint
    with pytest.raises(FusionProxyError, match="float16.*float32, bfloat16"):
        load_onnx_backbone(spec, dtype="float16")


def test_the_name_can_be_part_of_a_file_name(tmp_path):
    path = _network(tmp_path / "my net.onnx")
    backbone = load_onnx_backbone(f"onnx:{path}#stage/1:out?order=bgr")
    assert backbone.name == "my_net#stage_1_out"


def test_the_fingerprint_changes_with_whatever_features_follow_from(tmp_path):
    path = _network(tmp_path / "net.onnx")
    other = KERNELS[0] + np.float32(1e-6)
    prints = [
        load_onnx_backbone(f"onnx:{spec}").fingerprint
        for spec in (
            f"{path}#stage2",
            f"{path}#stage/1:out",
            f"{path}#stage2?order=bgr",
            f"{path}#stage2?mean=0,0,0",
            f"{path}#stage2?std=1,1,1",
            f"{path}#stage2?scale=255",
            f"{_network(tmp_path / 'size.onnx', size=(12, 22))}#stage2",
            f"{_network(tmp_path / 'kernel.onnx', kernel=other)}#stage2",
        )
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in prints)
    copy = _network(tmp_path / "copy.onnx")
    again = load_onnx_backbone(f"onnx:{copy}#stage2?mean=0.485,0.456,0.406&order=rgb")
    assert again.fingerprint == prints[0]


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("#mixed", r"mixed of .* has the shape \[1, 4, 60\]"),
        ("#pooled", r"pooled of .* has the shape \[1, 6, 1, 1\]"),
        ("#stage_3", "no tensor 'stage_3'; the nearest names are stage2"),
        ("", r"names no tensor; append #TENSOR, .* stage2 \[1, 4, 6, 10\]"),
        ("#stage2?gain=2", "the setting gain=2; give onnx:FILE#TENSOR"),
        ("#stage2?mean=0.5", "the setting mean=0.5"),
        ("#stage2?std=1,0,1", "the setting std=1,0,1"),
        ("#stage2?order=gbr", "the setting order=gbr"),
        ("#stage2?scale=nan", "the setting scale=nan"),
    ],
)
def test_what_cannot_be_tapped_is_refused_in_a_sentence(tail, words, tmp_path):
    path = _network(tmp_path / "net.onnx")
    with pytest.raises(FusionProxyError, match=words):
        load_onnx_backbone(f"onnx:{path}{tail}")


@pytest.mark.parametrize("entry", ["net.onnx#a", "onnx:#a", "onnx:"])
def test_an_entry_of_another_form_is_refused(entry):
    with pytest.raises(FusionProxyError, match=r"give onnx:FILE#TENSOR"):
        load_onnx_backbone(entry)


def test_an_image_that_does_not_fit_an_open_size_is_refused(tmp_path):
    nodes = [
        node("MaxPool", ["image"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Upsample", ["half", "twice"], ["again"], mode="nearest"),
        node("Add", ["image", "again"], ["out"], name="join"),
    ]
    constants = {"twice": np.array([1, 1, 2, 2], np.float32)}
    inputs = [("image", (1, 3, None, None))]
    path = save(
        tmp_path / "net.onnx", nodes, constants=constants, inputs=inputs, opset=9
    )
    backbone = load_onnx_backbone(f"onnx:{path}#out")
    fitting = jax.eval_shape(backbone.features, jnp.zeros((1, 8, 6, 3)))
    assert fitting.shape == (1, 8, 6, 3)
    with pytest.raises(FusionProxyError, match=r"node 'join' .*\(1, 3, 9, 6\)"):
        jax.eval_shape(backbone.features, jnp.zeros((1, 9, 6, 3)))


def test_compact_is_found_only_where_both_files_are(tmp_path, monkeypatch):
    monkeypatch.delenv("FUSIONPROXY_MODELS", raising=False)
    assert find_compact() is None
    monkeypatch.setenv("FUSIONPROXY_MODELS", str(tmp_path))
    (tmp_path / COMPACT[0][0]).touch()
    assert find_compact() is None
    (tmp_path / COMPACT[1][0]).touch()
    assert find_compact() == [
        f"onnx:{tmp_path / file}#{rest}" for file, rest in COMPACT
    ]


def _nanodet_input(images):
    """As NanoDet's own configuration has it: BGR of 0 to 255."""
    seen = _seen(images, (416, 416), (0, 0, 0), (1, 1, 1))[:, ::-1] * 255
    mean = np.array((103.53, 116.28, 123.675), np.float32).reshape(1, 3, 1, 1)
    std = np.array((57.375, 57.12, 58.395), np.float32).reshape(1, 3, 1, 1)
    return (seen - mean) / std


def test_the_compact_panel_is_what_its_two_detectors_compute(real_models, monkeypatch):
    monkeypatch.setenv("FUSIONPROXY_MODELS", str(real_models))
    images = RNG.uniform(size=(1, 64, 96, 3)).astype(np.float32)
    seen = (_nanodet_input(images), _seen(images, (320, 320)))
    megabytes = 0.0
    for entry, expected_input in zip(find_compact(), seen, strict=True):
        backbone = load_onnx_backbone(entry)
        features = _features(backbone, images)
        path, tensor = entry.removeprefix("onnx:").split("?")[0].split("#")
        expected = _by_onnxruntime(path, tensor, expected_input)
        np.testing.assert_allclose(
            features, expected, rtol=0, atol=1e-4 * np.abs(expected).max()
        )
        megabytes += features.size * np.dtype(np.float16).itemsize / 1e6
    assert megabytes <= 1.5
