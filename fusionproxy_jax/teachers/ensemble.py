"""Statistics of teacher samples: Eqs. 4 and 5, and where the variance comes from.

Samples are RGB in [0, 1]. Variances are population variances (divided by the number of
samples, so one sample gives zero) and means over the three channels: an epsilon added
to them is in squared [0, 1] units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def ensemble_mean(samples: jax.Array) -> jax.Array:
    """Mean of samples [n, h, w, 3] over n, Eq. 4; [h, w, 3]."""
    return jnp.mean(samples, axis=0)


def ensemble_variance(samples: jax.Array) -> jax.Array:
    """Variance of samples [n, h, w, 3] over n, mean over channels, Eq. 5; [h, w]."""
    return jnp.mean(jnp.var(samples, axis=0), axis=-1)


class VarianceParts(NamedTuple):
    """Law of total variance over teachers of equally many samples; [h, w] each.

    total = within + between. What teachers disagree on systematically (`between`) is
    not what one teacher is unsure of (`within`), though Eq. 5 adds them up.
    """

    total: jax.Array
    within: jax.Array
    between: jax.Array


def decompose_variance(samples: jax.Array) -> VarianceParts:
    """Returns the variance parts of samples [t, n, h, w, 3] of t teachers."""
    within = jnp.mean(jnp.var(samples, axis=1), axis=(0, -1))
    between = jnp.mean(jnp.var(jnp.mean(samples, axis=1), axis=0), axis=-1)
    total = ensemble_variance(samples.reshape(-1, *samples.shape[2:]))
    return VarianceParts(total, within, between)
