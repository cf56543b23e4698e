import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from panel.tiny_panel import BEFORE_TAP, tensors, tiny_model, write

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.description import describe_backbone
from fusionproxy_jax.panel.foundation_backbone import (
    backbone_without_weights,
    load_foundation_backbone,
)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.safetensors", tensors())


def _images(*size, seed=0):
    draw = np.random.default_rng(seed)
    return draw.uniform(0, 1, (2, *size, 3)).astype(np.float32)


def _torch_features(images, given, model):
    """The same network in torch: interpolate, normalise, two convolutions."""
    functional = torch.nn.functional
    size = model.input_size(model.config, *images.shape[1:3])
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    x = (x - torch.tensor(model.mean)[:, None, None]) / torch.tensor(model.std)[
        :, None, None
    ]
    for part in ("stem", "body"):
        weight, bias = (
            torch.from_numpy(given[f"{part}.{name}"]) for name in ("weight", "bias")
        )
        x = functional.relu(functional.conv2d(x, weight, bias, stride=2, padding=1))
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", [(64, 96), (48, 24), (11, 17)])
def test_features_are_torchs_of_the_resized_normalised_image(path, size):
    model = tiny_model()
    backbone = load_foundation_backbone(model, path)
    with jax.numpy_dtype_promotion("strict"):
        features = jax.jit(backbone.apply)(backbone.params, _images(*size))
    assert features.shape == (2, 12, 6, 4) and features.dtype == jnp.float32
    np.testing.assert_allclose(
        features,
        _torch_features(_images(*size), tensors(), model),
        rtol=1e-4,
        atol=1e-5,
    )


def test_bfloat16_gives_close_features_in_float32_from_float32_parameters(path):
    exact = load_foundation_backbone(tiny_model(), path)
    coarse = load_foundation_backbone(tiny_model(), path, dtype="bfloat16")
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(coarse.params)}
    assert dtypes == {"float32"}
    wanted, got = (each.features(_images(32, 32)) for each in (exact, coarse))
    assert got.dtype == jnp.float32
    difference = np.abs(got - wanted).max()
    # bfloat16 has 8 bits of significand.
    assert 0 < difference < 0.05 * np.abs(wanted).max()


def test_the_gradient_in_the_images_is_that_of_finite_differences(path):
    backbone = load_foundation_backbone(tiny_model(), path)

    @jax.jit
    def distance(images):
        return jnp.mean(jnp.square(backbone.apply(backbone.params, images)))

    images, step = _images(20, 28), 1e-2
    gradient = np.asarray(jax.grad(distance)(images))
    direction = gradient / np.linalg.norm(gradient)
    slope = (
        distance(images + step * direction) - distance(images - step * direction)
    ) / (2 * step)
    np.testing.assert_allclose(slope, np.vdot(gradient, direction), rtol=1e-2)


def test_the_fingerprint_is_of_what_features_follow_from(tmp_path, path):
    model = tiny_model()
    fingerprint = load_foundation_backbone(model, path).fingerprint
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    assert load_foundation_backbone(model, path, dtype="bfloat16").fingerprint == (
        fingerprint
    )

    def changed(name):
        given = tensors()
        given[name].flat[-1] += 1
        other = write(tmp_path / "b.safetensors", given)
        return load_foundation_backbone(model, other).fingerprint

    others = [changed(name) for name in BEFORE_TAP]
    others.append(load_foundation_backbone(tiny_model(side_px=16), path).fingerprint)
    others.append(load_foundation_backbone(tiny_model(tap="stem"), path).fingerprint)
    assert len({fingerprint, *others}) == 1 + len(others)
    # Nothing behind the tap reaches a feature.
    assert changed("head.bias") == fingerprint


def test_weights_that_do_not_fit_are_refused(path):
    with pytest.raises(FusionProxyError, match="stem.weight .*for stem/kernel"):
        load_foundation_backbone(tiny_model(width=5), path)


def test_a_backbone_is_described_without_its_weights(path):
    model = tiny_model()
    told = describe_backbone(backbone_without_weights(model))
    assert told == describe_backbone(load_foundation_backbone(model, path))
    assert told.parameters == sum(tensors()[name].size for name in BEFORE_TAP)
    assert (told.grid, told.channels) == ((12, 6), 4)
