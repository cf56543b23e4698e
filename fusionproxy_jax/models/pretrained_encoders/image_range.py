"""The first convolution of an ImageNet network for our images.

Those networks were trained on images less ImageNet's mean colour, over its deviation;
students take images in [0, 1], and grey infrared ones.
"""

import jax.numpy as jnp

from fusionproxy_jax.checkpoints.weights import Parameters

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def for_visible(stem: Parameters) -> Parameters:
    """Returns the layer with subtraction and division inside.

    Exact but for the border of zeros, which was the mean colour and now is black.

    Args:
        stem: A convolution with bias, or a folded `ConvNorm`.
    """
    deviation = jnp.asarray(IMAGENET_DEVIATION).reshape(1, 1, 3, 1)
    mean = jnp.asarray(IMAGENET_MEAN).reshape(1, 1, 3, 1)
    kernel = stem["kernel"] / deviation
    shift = jnp.sum(kernel * mean, axis=(0, 1, 2))
    if "norm" not in stem:
        return {"kernel": kernel, "bias": stem["bias"] - shift}
    norm = stem["norm"]
    bias = norm["bias"] - norm["scale"] * shift
    return {"kernel": kernel, "norm": {**norm, "bias": bias}}


def for_infrared(stem: Parameters) -> Parameters:
    """Returns what answers to a grey image as the given layer does to it in colour."""
    return {**stem, "kernel": jnp.sum(stem["kernel"], axis=2, keepdims=True)}
