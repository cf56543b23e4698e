import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch_oracles import mobilenet_v4
from torch_oracles.batch_norm import redraw

from fusionproxy_jax.evaluation.complexity import parameter_shapes
from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.mobilenet_v4 import MobileNetV4Encoder
from fusionproxy_jax.models.variants import MOBILENET_V4_CONV_M


def _image(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_all_published_blocks_equal_the_batch_normalised_ones_in_pytorch():
    widths = (6, 8, 8, 8)
    published = redraw(mobilenet_v4.Encoder(6, widths))
    encoder = MobileNetV4Encoder(
        style=LayerStyle(normalization="affine", activation="relu", grouped=True),
        stem_width=6,
        widths=widths,
        depths=MOBILENET_V4_CONV_M.depths,
    )
    image = _image(2, 64, 96, 3)
    with torch.no_grad():
        expected = published(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    ours = jax.jit(encoder.apply)({"params": published.params()}, jnp.asarray(image))
    for features, reference in zip(ours, expected, strict=True):
        reference = reference.numpy().transpose(0, 2, 3, 1)
        # Values grow over the 22 blocks.
        bound = 1e-4 * np.abs(reference).max()
        np.testing.assert_allclose(features, reference, rtol=1e-4, atol=bound)


def test_the_encoder_has_the_published_number_of_parameters_less_the_head():
    config = MOBILENET_V4_CONV_M
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = parameter_shapes(build_encoder(config), image)
    ours = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    with torch.device("meta"):
        head = mobilenet_v4.ClassificationHead(config.widths[-1])
        encoder = mobilenet_v4.Encoder(config.stem_width, config.widths)
    left_out = sum(parameter.numel() for parameter in head.parameters())
    assert ours == sum(parameter.numel() for parameter in encoder.parameters())
    # The released network has 9.72 M.
    assert round((ours + left_out) / 1e6, 2) == 9.72
