import jax
import numpy as np
import pytest
from torch_oracles import mask_difuser as oracle

from fusionproxy_jax.teachers.mask_difuser.encoders import (
    ContentEncoder,
    SemanticEncoder,
)
from fusionproxy_jax.teachers.mask_difuser.keys import mask_difuser_key_table

CONFIG = oracle.TINY


@pytest.fixture(scope="module")
def published():
    return oracle.randomise(oracle.MaskDifuser(CONFIG))


@pytest.fixture(scope="module")
def params(published):
    return oracle.as_flax(published.state_dict(), mask_difuser_key_table(CONFIG))


def _views(height, width):
    views = np.random.default_rng(1).uniform(-1, 1, (2, 2, height, width, 3))
    return views.astype(np.float32)


def test_the_content_encoder_equals_the_published_one(published, params):
    encoder = ContentEncoder(CONFIG.content_widths, CONFIG.num_groups)
    views = _views(7, 10)
    ours = jax.jit(encoder.apply)({"params": params["content_encoder"]}, *views)
    expected = oracle.run(published.content_encoder, *views)
    assert ours.shape == (2, 7, 10, CONFIG.content_widths[-1] // 2)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


# The stride is 4: sides that it divides, and sides to be rounded up.
@pytest.mark.parametrize(("height", "width"), [(8, 16), (9, 18)])
def test_the_semantic_encoder_equals_the_published_one(
    published, params, height, width
):
    encoder = SemanticEncoder(
        CONFIG.semantic_widths,
        CONFIG.semantic_layers,
        CONFIG.semantic_heads,
        CONFIG.semantic_hidden,
        CONFIG.num_groups,
    )
    views = _views(height, width)
    ours = jax.jit(encoder.apply)({"params": params["encoder"]}, *views)
    for tokens, view in zip(ours, views, strict=True):
        expected = oracle.run(published.encoder, view)
        assert expected.shape[1:3] == (-(-height // 4), -(-width // 4))
        np.testing.assert_allclose(
            tokens.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5
        )
