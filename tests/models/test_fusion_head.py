import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.models.fusion_head import FusionHead


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_the_head_is_equation_13():
    generator = np.random.default_rng(0)
    channels, hidden = 4, 2

    def draw(*shape):
        return jnp.asarray(generator.standard_normal(shape), jnp.float32)

    params = {
        "squeeze": {"kernel": draw(2 * channels, hidden), "bias": draw(hidden)},
        "excite": {"kernel": draw(hidden, 2 * channels), "bias": draw(2 * channels)},
        "project": {"kernel": draw(2 * channels, channels), "bias": draw(channels)},
    }
    infrared, visible = draw(2, 3, 5, channels), draw(2, 3, 5, channels)
    ours = FusionHead().apply({"params": params}, infrared, visible)

    params, infrared, visible = jax.tree.map(np.asarray, (params, infrared, visible))
    for image in range(2):
        both = np.concatenate([infrared[image], visible[image]], axis=-1)
        pooled = both.mean(axis=(0, 1))
        squeezed = pooled @ params["squeeze"]["kernel"] + params["squeeze"]["bias"]
        excited = np.maximum(squeezed, 0.0) @ params["excite"]["kernel"]
        attention = _sigmoid(excited + params["excite"]["bias"])
        projected = (attention * both) @ params["project"]["kernel"]
        expected = (
            projected + params["project"]["bias"] + infrared[image] + visible[image]
        )
        np.testing.assert_allclose(ours[image], expected, rtol=1e-4, atol=1e-5)


def test_a_closed_projection_passes_both_modalities_unweighted():
    infrared = jnp.full((1, 2, 2, 4), 0.25)
    visible = jnp.full((1, 2, 2, 4), 0.5)
    params = {
        "squeeze": {"kernel": np.ones((8, 2)), "bias": np.ones(2)},
        "excite": {"kernel": np.ones((2, 8)), "bias": np.ones(8)},
        "project": {"kernel": np.zeros((8, 4)), "bias": np.zeros(4)},
    }
    fused = FusionHead().apply({"params": params}, infrared, visible)
    np.testing.assert_array_equal(fused, infrared + visible)
