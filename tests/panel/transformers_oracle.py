"""Networks of the transformers library as references, taken through their files."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import torch

from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert


def randomised(network, seed=0):
    """The network in evaluation mode, with no tensor left as it was initialised.

    Values have the size of a trained network's, so that features neither vanish nor
    grow.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            noise = torch.randn(tensor.shape, generator=draw)
            if name.endswith("weight") and tensor.ndim == 1:
                tensor.copy_(1 + noise / 4)
            elif name.endswith("weight"):
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(noise / 4)
    return network.eval()


def shapes(model, whole=True):
    """Shapes of a model's parameters, without making them."""
    side = model.config.image_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    module = model.build(model.config, whole, jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), image)["params"]


def saved_and_converted(network, model, folder):
    """Parameters of our model from the file that transformers writes."""
    network.save_pretrained(folder)
    with open_checkpoint(folder / "model.safetensors") as source:
        return convert(
            source,
            model.key_table(model.config),
            shapes(model),
            ignored=model.ignored,
            prefixes=model.prefixes,
        )


def images(batch, height, width, seed=0):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((batch, height, width, 3)).astype(np.float32)


def outputs(network, modules, pictures, **options):
    """What each of the submodules returns, and the network itself, as arrays."""
    found = {}

    def keep(name):
        def hook(module, inputs, output):
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [
        network.get_submodule(path).register_forward_hook(keep(name))
        for name, path in modules.items()
    ]
    with torch.no_grad():
        network(torch.from_numpy(pictures).permute(0, 3, 1, 2), **options)
    for hook in hooks:
        hook.remove()
    return {name: value.numpy() for name, value in found.items()}


def computed(model, params, pictures, *, whole=False, dtype=jnp.float32):
    """Our features and intermediate values."""
    return _compiled(model, whole, dtype)({"params": params}, pictures)


@cache
def _compiled(model, whole, dtype):
    return jax.jit(model.build(model.config, whole, dtype).apply)


def assert_gradient_of_feature_distance(model, params, pictures, step=1e-2):
    """Compares d/d image of a feature distance with central differences."""
    apply = _compiled(model, False, jnp.float32)
    target = apply({"params": params}, images(*pictures.shape[:3], seed=5))[0]

    @jax.jit
    @jax.grad
    def differentiate(x):
        return jnp.mean(jnp.square(apply({"params": params}, x)[0] - target))

    def distance(x):
        features = np.asarray(apply({"params": params}, x)[0], np.float64)
        return np.mean(np.square(features - target))

    gradient = np.asarray(differentiate(pictures), np.float64)
    for seed in range(3):
        direction = images(*pictures.shape[:3], seed=10 + seed)
        # A part along the gradient, so that the slope stands out of the rounding.
        direction += 5 * (gradient / np.sqrt(np.mean(gradient**2))).astype(np.float32)
        direction /= np.sqrt(np.sum(direction**2))
        ahead, behind = (distance(pictures + way * direction) for way in (step, -step))
        np.testing.assert_allclose(
            (ahead - behind) / (2 * step), np.vdot(gradient, direction), rtol=1e-2
        )
