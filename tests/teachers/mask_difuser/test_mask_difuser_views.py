import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.mask_difuser.views import (
    conflict,
    draw_example,
    restoration,
)

SIDE = 64


@pytest.fixture(scope="module")
def pair():
    """A dark textured visible image with a warm disc in infrared, in [-1, 1]."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    texture = np.random.default_rng(0).normal(scale=0.05, size=(SIDE, SIDE))
    visible = np.stack([-0.6 + texture, -0.65 + texture, -0.7 + texture], -1)
    warm = np.hypot(rows - 30, columns - 34) < 9
    infrared = np.where(warm, 0.7, -0.5)[..., None]
    return jnp.asarray(visible, jnp.float32), jnp.asarray(infrared, jnp.float32)


def test_a_restoration_hides_most_places_in_one_view_only(pair):
    hidden_in_both = shown_in_both = total = 0
    for n in range(12):
        example = restoration(*pair, jax.random.key(n))
        clean_a, clean_b = (
            np.all(np.abs(view - example.clean) < 1e-6, axis=-1)
            for view in (example.view_a, example.view_b)
        )
        hidden_in_both += np.sum(~clean_a & ~clean_b)
        shown_in_both += np.sum(clean_a & clean_b)
        total += clean_a.size
    # 15 % of the faulty places, and those of a degradation that changes every pixel.
    assert 0.02 < hidden_in_both / total < 0.2
    # A share of 0.3 to 1 of the patches is faulty.
    assert 0.1 < shown_in_both / total < 0.6


def test_a_restoration_is_of_the_visible_the_infrared_or_both(pair):
    visible, infrared = pair
    thermal = jnp.broadcast_to(infrared, visible.shape)
    kinds = {"visible": visible, "thermal": thermal, "blend": (visible + thermal) / 2}
    counts = dict.fromkeys(kinds, 0)
    for n in range(60):
        clean = restoration(*pair, jax.random.key(n)).clean
        (kind,) = (k for k, image in kinds.items() if np.allclose(clean, image))
        counts[kind] += 1
    assert counts["visible"] > counts["thermal"] > counts["blend"] > 0


def test_patches_have_no_fixed_grid(pair):
    edges = np.zeros(SIDE - 1, bool)
    for n in range(20):
        view = np.asarray(restoration(*pair, jax.random.key(n)).view_a)
        flat = np.all(view == view[:, :1], axis=(0, 2))
        jumps = np.abs(np.diff(view.mean((0, 2))))
        edges |= (jumps > 0.05) & ~flat[1:]
    assert edges.sum() > 20


def test_a_conflict_keeps_the_warm_disc_and_the_colour(pair):
    visible, infrared = pair
    warm = np.asarray(infrared[..., 0] > 0)
    brighter = 0
    for n in range(8):
        example = conflict(*pair, jax.random.key(n), config=SalientConfig())
        fused = np.asarray(luma(example.clean))
        brighter += fused[warm].mean() > fused[~warm].mean() + 0.2
        assert float(jnp.abs(example.clean).max()) <= 1 + 1e-5
        # Infrared is a grey view.
        assert float(jnp.ptp(example.view_a, axis=-1).max()) < 0.5
        # The visible image is reddish, so is what it becomes.
        assert float(jnp.mean(example.clean[..., 0] - example.clean[..., 2])) > 0
    assert brighter == 8


def test_conflicts_have_more_than_one_answer(pair):
    answers = jnp.stack(
        [
            conflict(*pair, jax.random.key(n), config=SalientConfig()).clean
            for n in range(6)
        ]
    )
    assert float(jnp.std(answers, axis=0).mean()) > 0.01


def test_the_share_of_conflicts_is_what_was_asked(pair):
    keys = jax.random.split(jax.random.key(0), 40)

    def draw(key, share):
        return draw_example(*pair, key, conflict_share=share, config=SalientConfig())

    never = jax.vmap(lambda key: draw(key, 0.0))(keys)
    always = jax.vmap(lambda key: draw(key, 1.0))(keys)
    some = jax.vmap(lambda key: draw(key, 0.25))(keys)
    is_conflict = np.all(np.isclose(some.clean, always.clean), axis=(1, 2, 3))
    is_restoration = np.all(np.isclose(some.clean, never.clean), axis=(1, 2, 3))
    assert np.all(is_conflict | is_restoration)
    assert 3 <= is_conflict.sum() <= 18
