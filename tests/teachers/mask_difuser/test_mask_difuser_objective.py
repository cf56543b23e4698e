import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.teachers.mask_difuser.objective import restoration_loss


def _images(seed):
    return jax.random.uniform(
        jax.random.key(seed), (2, 16, 20, 3), minval=-1.0, maxval=1.0
    )


def test_nothing_is_lost_where_nothing_is_wrong():
    clean = _images(0)
    loss, terms = restoration_loss(clean, clean, jnp.array([0.9, 0.1]))
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)
    assert terms.keys() == {"squared", "absolute", "edges", "structure", "colour"}


def test_terms_follow_their_formulas():
    estimate, clean, signal = _images(0), _images(1), np.array([0.5, 0.95])
    loss, terms = restoration_loss(estimate, clean, jnp.asarray(signal))
    difference = np.asarray(estimate, np.float64) - np.asarray(clean, np.float64)
    snr = np.minimum(signal / (1 - signal), 5)
    np.testing.assert_allclose(
        terms["squared"], (1 + snr) * (difference**2).mean((1, 2, 3)), rtol=1e-4
    )
    np.testing.assert_allclose(
        terms["absolute"], 0.5 * signal * np.abs(difference).mean((1, 2, 3)), rtol=1e-4
    )
    edges = [np.abs(np.diff(difference, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
    np.testing.assert_allclose(
        terms["edges"], 0.5 * signal * (edges[0] + edges[1]), rtol=1e-4
    )
    first, second = (np.asarray(i, np.float64) / 2 + 0.5 for i in (estimate, clean))
    cosine = ((first * second).sum(-1) + 1e-3) / np.sqrt(
        ((first**2).sum(-1) + 1e-3) * ((second**2).sum(-1) + 1e-3)
    )
    np.testing.assert_allclose(
        terms["colour"], 0.1 * signal * (1 - cosine).mean((1, 2)), rtol=1e-3
    )
    np.testing.assert_allclose(loss, sum(terms.values()), rtol=1e-6)


def test_black_images_have_a_finite_gradient():
    black = -jnp.ones((1, 16, 16, 3))
    gradient = jax.grad(lambda x: restoration_loss(x, black, jnp.ones(1) / 2)[0].sum())
    assert bool(jnp.all(jnp.isfinite(gradient(black))))
    assert bool(jnp.all(jnp.isfinite(gradient(_images(0)[:1, :, :16]))))
