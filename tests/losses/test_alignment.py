import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fusionproxy_jax.losses.alignment import alignment_loss

CHANNELS = (4, 6, 1)


def random_features(seed=0, batch=2, height=3, width=5):
    generator = np.random.default_rng(seed)
    features, target = (
        tuple(
            jnp.asarray(generator.normal(size=(batch, height, width, channels)), "f4")
            for channels in CHANNELS
        )
        for _ in range(2)
    )
    weights = generator.random((batch, len(CHANNELS), height, width), np.float32)
    return features, target, jnp.asarray(weights / weights.sum(axis=1, keepdims=True))


def test_the_loss_is_equation_10():
    features, target, weights = random_features()
    expected = [
        oracles.alignment_loss(
            [np.asarray(feature[index]) for feature in features],
            [np.asarray(feature[index]) for feature in target],
            np.asarray(weights[index]),
        )
        for index in range(2)
    ]
    np.testing.assert_allclose(
        alignment_loss(features, target, weights), expected, rtol=1e-5
    )


def test_equal_features_cost_nothing():
    features, _, weights = random_features()
    np.testing.assert_array_equal(
        alignment_loss(features, features, weights), jnp.zeros(2)
    )


def test_a_unit_error_in_every_channel_costs_one_however_wide_the_backbones():
    features, _, weights = random_features()
    shifted = tuple(feature + 1 for feature in features)
    np.testing.assert_allclose(alignment_loss(shifted, features, weights), 1, rtol=1e-5)


def test_a_backbone_of_weight_zero_gets_no_gradient():
    features, target, weights = random_features()
    weights = jnp.zeros_like(weights).at[:, 0].set(1.0)
    gradients = jax.grad(lambda f: alignment_loss(f, target, weights).sum())(features)
    assert np.any(gradients[0] != 0)
    assert not np.any(gradients[1]) and not np.any(gradients[2])


def test_a_missing_backbone_is_refused():
    features, target, weights = random_features()
    with pytest.raises(ValueError, match="2, targets of 3 and weights of 3 backbones"):
        alignment_loss(features[:2], target, weights)


def test_bfloat16_features_are_compared_in_float32():
    features, target, weights = random_features()
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (features, target))
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), rounded)
    np.testing.assert_array_equal(
        alignment_loss(*rounded, weights), alignment_loss(*exact, weights)
    )
