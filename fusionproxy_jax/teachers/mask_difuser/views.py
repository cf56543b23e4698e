"""What Mask-DiFuser is trained on: two views of one image, and the image.

Two kinds of examples, mixed per image:

- restoration (published): one clean image, hidden in patches of both views so that
  mostly one of them shows each place;
- conflict (ours): an infrared-visible pair, lightly degraded, and one `salient` choice
  between the clean sources. Restoration alone leaves nothing open where both views are
  whole, so samples at inference would hardly differ; here the answer really is one of
  several, and samples are draws of it.

Images are [h, w, 3] in [-1, 1]; everything works on one image and is vmapped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.teachers.colour import luma, recolour
from fusionproxy_jax.teachers.mask_difuser.degradations import degrade, tone
from fusionproxy_jax.teachers.salient import draw_selection

# Sides of the hidden patches, in px: more than one, at a random place, so that no grid
# is learnt.
_PATCH_SIDES = (8, 16, 32)


class Example(NamedTuple):
    """What the network gets and what it has to find, [h, w, 3] in [-1, 1] each."""

    view_a: jax.Array
    view_b: jax.Array
    clean: jax.Array


def restoration(visible: jax.Array, infrared: jax.Array, key: jax.Array) -> Example:
    """Returns views of one image: visible 60 %, infrared 30 %, their blend 10 %."""
    kind_key, mask_key, fill_a_key, fill_b_key, bad_key = jax.random.split(key, 5)
    thermal = jnp.broadcast_to(infrared, visible.shape)
    kind = jax.random.uniform(kind_key)
    clean = jnp.where(
        kind < 0.6,
        visible,
        jnp.where(kind < 0.9, thermal, (visible + thermal) / 2.0),
    )
    hidden_a, hidden_b, bad_a, bad_b = _masks(mask_key, clean.shape[:2])
    degraded = degrade(clean, bad_key)

    def view(hidden, bad, fill_key):
        shown = jnp.where(bad[..., None], degraded, clean)
        return jnp.where(hidden[..., None], _fill(fill_key), shown)

    return Example(
        view(hidden_a, bad_a, fill_a_key), view(hidden_b, bad_b, fill_b_key), clean
    )


def conflict(
    visible: jax.Array, infrared: jax.Array, key: jax.Array, *, config: SalientConfig
) -> Example:
    """Returns the sources as views, and one draw of the choice between them.

    Both sources get a random tone first, which changes what there is to choose; each
    is then degraded in a quarter of the cases, which the choice must not show. More
    often would teach to distrust what both views say, and samples to differ there.
    """
    keys = jax.random.split(key, 7)
    thermal = jnp.where(
        jax.random.bernoulli(keys[0], 0.3), tone(infrared, keys[1]), infrared
    )
    seen = jnp.where(
        jax.random.bernoulli(keys[2], 0.3), tone(visible, keys[3]), visible
    )
    fused = draw_selection(thermal[..., 0], luma(seen), keys[4][None], config=config)
    colour = recolour(jnp.clip((fused[0] + 1.0) / 2.0, 0.0, 1.0), (seen + 1.0) / 2.0)
    return Example(
        jnp.broadcast_to(_sometimes_degraded(thermal, keys[5]), visible.shape),
        _sometimes_degraded(seen, keys[6]),
        2.0 * colour - 1.0,
    )


def draw_example(
    visible: jax.Array,
    infrared: jax.Array,
    key: jax.Array,
    *,
    conflict_share: float,
    config: SalientConfig,
) -> Example:
    """Returns an example of either kind.

    Args:
      visible: RGB [h, w, 3] in [-1, 1].
      infrared: [h, w, 1] in [-1, 1].
      key: of this image.
      conflict_share: probability of a conflict.
      config: knobs of the choice.
    """
    kind_key, own_key = jax.random.split(key)
    chosen = jax.random.bernoulli(kind_key, conflict_share)
    conflicting = conflict(visible, infrared, own_key, config=config)
    restored = restoration(visible, infrared, own_key)
    return jax.tree.map(
        lambda one, other: jnp.where(chosen, one, other), conflicting, restored
    )


def _sometimes_degraded(image: jax.Array, key: jax.Array) -> jax.Array:
    coin_key, own_key = jax.random.split(key)
    # A tone is no fault of a source here: the choice is made on what it shows.
    return jnp.where(
        jax.random.bernoulli(coin_key, 0.25), degrade(image, own_key), image
    )


def _fill(key: jax.Array) -> jax.Array:
    """Returns the level of hidden patches: any, or nearly black as a night is."""
    coin_key, level_key = jax.random.split(key)
    level = jax.random.uniform(level_key)
    return jnp.where(
        jax.random.bernoulli(coin_key), 2.0 * level - 1.0, 0.2 * level - 1.0
    )


def _masks(
    key: jax.Array, shape: tuple[int, int]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns where A and B are hidden, and where A and B are degraded, [h, w] each.

    A share of 0.3 to 1 of the patches is faulty in one view, equally in both; there 90
    % are hidden, 10 % degraded, and in 15 % the other view is degraded as well, so
    that neither is clean.
    """
    side_key, offset_key, share_key, draw_key = jax.random.split(key, 4)
    side = jax.random.choice(side_key, jnp.array(_PATCH_SIDES))
    offset = jax.random.randint(offset_key, (2,), 0, side)
    share = jax.random.uniform(share_key, minval=0.3, maxval=1.0)
    rows, columns = (
        (jnp.arange(length) + offset[axis]) // side for axis, length in enumerate(shape)
    )
    # As many draws as the smallest patches need.
    counts = [length // _PATCH_SIDES[0] + 2 for length in shape]
    draws = jax.random.uniform(draw_key, (4, *counts))
    faulty, in_a, degraded, both = draws[:, rows[:, None], columns[None]]
    faulty, in_a, degraded, both = (
        faulty < share,
        in_a < 0.5,
        degraded < 0.1,
        both < 0.15,
    )
    fault_a, fault_b = faulty & in_a, faulty & ~in_a
    return (
        fault_a & ~degraded,
        fault_b & ~degraded,
        (fault_a & degraded) | (fault_b & both),
        (fault_b & degraded) | (fault_a & both),
    )
