import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch_oracles import efficientformer_v2
from torch_oracles.batch_norm import redraw

from fusionproxy_jax.evaluation.complexity import parameter_shapes
from fusionproxy_jax.models.efficientformer_v2 import EfficientFormerV2Encoder
from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.variants import EFFICIENTFORMER_V2_S1

# The bias tables are those of this size.
PUBLISHED_SIDE_PX = 224


def test_all_published_blocks_equal_the_batch_normalised_ones_in_pytorch():
    widths = (6, 8, 8, 8)
    published = redraw(efficientformer_v2.Encoder(6, widths, PUBLISHED_SIDE_PX))
    encoder = EfficientFormerV2Encoder(
        style=LayerStyle(normalization="affine", grouped=True),
        stem_width=6,
        widths=widths,
        depths=EFFICIENTFORMER_V2_S1.depths,
    )
    shape = (1, PUBLISHED_SIDE_PX, PUBLISHED_SIDE_PX, 3)
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        expected = published(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    ours = jax.jit(encoder.apply)({"params": published.params()}, jnp.asarray(image))
    for features, reference in zip(ours, expected, strict=True):
        reference = reference.numpy().transpose(0, 2, 3, 1)
        # Values grow over the 21 blocks.
        bound = 1e-4 * np.abs(reference).max()
        np.testing.assert_allclose(features, reference, rtol=1e-4, atol=bound)


def test_the_encoder_has_the_published_number_of_parameters_less_the_head():
    config = EFFICIENTFORMER_V2_S1
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = parameter_shapes(build_encoder(config), image)
    ours = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    with torch.device("meta"):
        head = efficientformer_v2.ClassificationHead(config.widths[-1])
        encoder = efficientformer_v2.Encoder(
            config.stem_width, config.widths, PUBLISHED_SIDE_PX
        )
    head, published = (
        sum(parameter.numel() for parameter in network.parameters())
        for network in (head, encoder)
    )
    assert ours == published - efficientformer_v2.redundant_parameters(encoder)
    # The released network has 6.19 M, its table 6.1 M.
    assert round((published + head) / 1e6, 2) == 6.19
