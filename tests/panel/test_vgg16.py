from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.vgg16 import VGG16, Vgg16, Vgg16Config

TINY = Vgg16Config(widths=(4, 6, 8, 10, 12))
# Configuration D of the paper's Table 1 up to the last ReLU: convolutions by their
# stage, "M" a maximum.
CONFIGURATION_D = (1, 1, "M", 2, 2, "M", 3, 3, 3, "M", 4, 4, 4, "M", 5, 5, 5)
SIZES = ((32, 48), (37, 22), (16, 51))


def torch_network() -> torch.nn.Module:
    """A small one with every tensor redrawn, and a classifier, as on disk."""
    generator = torch.Generator().manual_seed(0)
    layers: list[torch.nn.Module] = []
    width = 3
    for entry in CONFIGURATION_D:
        if entry == "M":
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers.append(torch.nn.Conv2d(width, TINY.widths[entry - 1], 3, padding=1))
            layers.append(torch.nn.ReLU())
            width = TINY.widths[entry - 1]
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(*layers)
    network.classifier = torch.nn.Sequential(torch.nn.Linear(width, 5))
    for parameter in network.parameters():
        scale = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.2
        torch.nn.init.normal_(parameter, std=scale, generator=generator)
    return network


def relu_outputs(network, images: np.ndarray) -> list[np.ndarray]:
    """Outputs of the ReLUs in their order, NHWC."""
    outputs = []
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        for layer in network.features:
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                outputs.append(x.permute(0, 2, 3, 1).numpy())
    return outputs


def shapes(config, *, whole):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(Vgg16(config, whole).init, jax.random.key(0), images)[
        "params"
    ]


@cache
def compiled(config, whole, dtype):
    return jax.jit(Vgg16(config, whole, dtype).apply)


def run(params, images, *, config=TINY, whole=True, dtype=jnp.float32):
    return compiled(config, whole, dtype)({"params": params}, images)


def count(config, *, whole) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(config, whole=whole)))


def draw(size, *, seed=0, batch=2) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((batch, *size, 3))
    return values.astype(np.float32)


def read(path):
    with open_checkpoint(path) as source:
        return convert(
            source,
            VGG16.key_table(TINY),
            shapes(TINY, whole=True),
            ignored=VGG16.ignored,
            prefixes=VGG16.prefixes,
        )


@pytest.fixture(scope="module")
def reference():
    return torch_network()


@pytest.fixture(scope="module")
def params(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg16") / "model.safetensors"
    state = {
        name.replace("classifier.0", "head.fc"): values
        for name, values in reference.state_dict().items()
    }
    # timm keeps the first two layers of the classifier as convolutions.
    save_file(state | {"pre_logits.fc1.weight": torch.ones(2, 12, 7, 7)}, path)
    return read(path)


@pytest.mark.parametrize("size", SIZES)
def test_every_relu_agrees_with_torch(reference, params, size):
    images = draw(size)
    features, relus = run(params, images)
    wanted = relu_outputs(reference, images)
    assert list(relus) == [
        *("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3"),
        *("relu4_1", "relu4_2", "relu4_3", "relu5_1", "relu5_2", "relu5_3"),
    ]
    for got, want in zip(relus.values(), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features, relus["relu3_3"])


def test_a_torch_file_gives_the_same_parameters(reference, params, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "vgg16.pth")
    jax.tree.map(np.testing.assert_array_equal, read(tmp_path / "vgg16.pth"), params)


@pytest.mark.parametrize("tap", ["relu1_1", "relu2_2", "relu3_3", "relu5_3"])
def test_the_network_that_ends_at_the_tap_gives_the_features_of_the_whole(params, tap):
    config = Vgg16Config(widths=TINY.widths, tap=tap)
    images = draw((32, 48))
    whole, _ = run(params, images, config=config)
    kept = {name: params[name] for name in shapes(config, whole=False)}
    assert list(kept)[-1] == tap.replace("relu", "conv")
    features, _ = run(kept, images, config=config, whole=False)
    np.testing.assert_allclose(features, whole, rtol=1e-6, atol=1e-6)


def test_full_size_has_the_published_number_of_parameters():
    assert count(VGG16.config, whole=True) == 14_714_688
    assert count(VGG16.config, whole=False) == 1_735_488


def test_features_at_256_pixels_are_on_the_common_grid():
    assert VGG16.input_size(VGG16.config, 256, 250) == (256, 250)
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    features, _ = jax.eval_shape(
        lambda x: Vgg16(VGG16.config).init_with_output(jax.random.key(0), x)[0], images
    )
    assert features.shape == (1, 64, 64, 256)


def test_bfloat16_gives_close_features_in_float32(params):
    images = draw((32, 48))
    exact, _ = run(params, images, whole=False)
    close, relus = run(params, images, whole=False, dtype=jnp.bfloat16)
    assert close.dtype == jnp.float32
    assert relus["relu3_3"].dtype == jnp.bfloat16
    # Eight bits of mantissa through seven layers.
    error = np.linalg.norm(close - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.02


def test_gradient_of_a_feature_distance_agrees_with_torch_and_differences(
    reference, params
):
    images, target = draw((32, 48), batch=1), draw((32, 48), seed=1, batch=1)
    theirs, _ = run(params, target, whole=False)

    @jax.jit
    def distance(images):
        return jnp.mean(jnp.square(run(params, images, whole=False)[0] - theirs))

    gradient = jax.jit(jax.grad(distance))(images)

    to_relu3_3 = reference.features[:16]
    leaf = torch.from_numpy(images).permute(0, 3, 1, 2).requires_grad_()
    goal = torch.from_numpy(np.array(theirs)).permute(0, 3, 1, 2)
    (to_relu3_3(leaf) - goal).square().mean().backward()
    wanted = leaf.grad.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)

    for seed in range(2, 5):
        direction = draw((32, 48), seed=seed, batch=1)
        step = 1e-4
        slope = (
            distance(images + step * direction) - distance(images - step * direction)
        ) / (2 * step)
        # ReLUs and maxima that switch within the step bend the differences.
        bound = 0.1 * np.linalg.norm(gradient)
        np.testing.assert_allclose(np.vdot(gradient, direction), slope, atol=bound)


def test_flat_images_have_a_finite_gradient(params):
    gradient = jax.grad(lambda images: jnp.sum(run(params, images, whole=False)[0]))(
        jnp.zeros((1, 32, 48, 3))
    )
    assert np.isfinite(gradient).all()


def test_an_unknown_tap_is_refused_with_the_known_ones():
    with pytest.raises(FusionProxyError, match=r"relu3_4.*one of relu1_1, .*relu5_3"):
        Vgg16Config(tap="relu3_4")
