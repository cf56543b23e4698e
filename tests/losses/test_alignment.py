import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from fusionproxy_jax.losses import alignment
from fusionproxy_jax.losses.alignment import feature_distances

alignment_loss = jax.jit(alignment.alignment_loss)

CHANNELS = (4, 6, 1)
# Finer than the common grid, coarser, and of one row.
GRIDS = ((3, 5), (9, 4), (1, 7))


def random_features(grids=((3, 5),) * 3, grid=(3, 5), seed=0, batch=2):
    generator = np.random.default_rng(seed)
    features, target = (
        tuple(
            jnp.asarray(generator.normal(size=(batch, *size, channels)), "f4")
            for size, channels in zip(grids, CHANNELS, strict=True)
        )
        for _ in range(2)
    )
    weights = generator.random((batch, len(CHANNELS), *grid), np.float32)
    return features, target, jnp.asarray(weights / weights.sum(axis=1, keepdims=True))


def bilinear_loops(image, height, width):
    """One image [y, x, c] at half-pixel centres, edge values beyond the edge."""
    old_height, old_width, channels = image.shape
    out = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * old_height / height - 0.5, 0), old_height - 1)
            x = min(max((j + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            for row, row_share in ((top, 1 - y + top), (bottom, y - top)):
                for column, share in ((left, 1 - x + left), (right, x - left)):
                    out[i, j] += row_share * share * image[row, column]
    return out


def assert_is_equation_10(features, target, weights):
    height, width = weights.shape[2:]
    expected = [
        oracles.alignment_loss(
            *(
                [
                    bilinear_loops(np.asarray(map_[index]), height, width)
                    for map_ in maps
                ]
                for maps in (features, target)
            ),
            np.asarray(weights[index]),
        )
        for index in range(len(weights))
    ]
    loss = alignment_loss(features, target, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_loss_is_equation_10():
    assert_is_equation_10(*random_features())


@pytest.mark.parametrize("grid", [(6, 10), (5, 11)])
def test_every_backbone_is_resampled_from_its_own_grid(grid):
    assert_is_equation_10(*random_features(GRIDS, grid))


def test_distances_are_those_of_both_maps_resampled_by_jax():
    features, target, _ = random_features(GRIDS)

    @jax.jit
    def resampled_first(features, target):
        distances = []
        for pair in zip(features, target, strict=True):
            size = (2, 8, 6, pair[0].shape[-1])
            ours, theirs = (
                jax.image.resize(map_, size, "bilinear", antialias=False)
                for map_ in pair
            )
            distances.append(jnp.mean(jnp.square(ours - theirs), axis=-1))
        return jnp.stack(distances, axis=1)

    np.testing.assert_allclose(
        jax.jit(lambda *maps: feature_distances(*maps, (8, 6)))(features, target),
        resampled_first(features, target),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_wide_map_is_never_made_at_the_size_of_the_common_grid():
    features = (jnp.zeros((1, 4, 4, 128)),)
    program = jax.make_jaxpr(
        jax.grad(lambda x: feature_distances(x, features, (64, 64)).sum())
    )(features)
    largest = max(
        math.prod(value.aval.shape)
        for equation in program.jaxpr.eqns
        for value in equation.outvars
    )
    assert largest < 64 * 64 * 128 / 8


def test_equal_features_cost_nothing():
    features, _, weights = random_features(GRIDS)
    loss = alignment_loss(features, features, weights)
    np.testing.assert_array_equal(loss, jnp.zeros(2))


@pytest.mark.parametrize("grids", [((3, 5),) * 3, GRIDS])
def test_a_unit_error_in_every_channel_costs_one_however_wide_the_backbones(grids):
    features, _, weights = random_features(grids)
    shifted = tuple(feature + 1 for feature in features)
    np.testing.assert_allclose(alignment_loss(shifted, features, weights), 1, rtol=1e-5)


def test_the_sum_over_channels_weights_backbones_by_their_width():
    features, target, _ = random_features(GRIDS)
    mean, total = jax.jit(
        lambda *maps: [
            feature_distances(*maps, (6, 10), norm=norm) for norm in ("mean", "sum")
        ]
    )(features, target)
    widths = jnp.array(CHANNELS, jnp.float32)[None, :, None, None]
    np.testing.assert_allclose(total, widths * mean, rtol=1e-6)


def test_a_backbone_of_weight_zero_gets_no_gradient():
    features, target, weights = random_features(GRIDS)
    weights = jnp.zeros_like(weights).at[:, 0].set(1.0)
    gradients = jax.jit(
        jax.grad(lambda features: alignment_loss(features, target, weights).sum())
    )(features)
    assert np.any(gradients[0] != 0)
    assert not np.any(gradients[1]) and not np.any(gradients[2])


def test_the_gradient_is_that_of_finite_differences():
    features, target, weights = random_features(GRIDS, (6, 10))
    inputs = features, weights
    direction = jax.tree.map(np.cos, inputs)

    @jax.jit
    def along(step):
        moved = jax.tree.map(lambda x, d: x + step * d, inputs, direction)
        return alignment_loss(moved[0], target, moved[1]).sum()

    gradient = jax.jit(
        jax.grad(lambda f, w: alignment_loss(f, target, w).sum(), argnums=(0, 1))
    )(*inputs)
    slope = sum(
        np.vdot(*leaves)
        for leaves in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)
    )
    # The loss is cubic along the way; in float32 a step this long rounds least.
    difference = (along(jnp.float32(1e-2)) - along(jnp.float32(-1e-2))) / 2e-2
    np.testing.assert_allclose(difference, slope, rtol=1e-3)


def test_a_missing_backbone_is_refused():
    features, target, weights = random_features()
    with pytest.raises(ValueError, match="features of 2 and weights of 3 backbones"):
        alignment_loss(features[:2], target[:2], weights)
    with pytest.raises(ValueError, match="features of 3 and targets of 2 backbones"):
        alignment_loss(features, target[:2], weights)


def test_a_target_of_another_grid_is_refused():
    features, _, weights = random_features()
    _, target, _ = random_features(((3, 5), (6, 5), (3, 5)))
    with pytest.raises(ValueError, match=r"backbone 1 are \[2, 3, 5, 6\]"):
        alignment_loss(features, target, weights)


def test_bfloat16_features_are_compared_in_float32():
    features, target, weights = random_features(GRIDS)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (features, target))
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), rounded)
    np.testing.assert_array_equal(
        alignment_loss(*rounded, weights), alignment_loss(*exact, weights)
    )
