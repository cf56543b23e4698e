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
    """Law of total variance over t teachers of equally many samples.

    total = mean over teachers of within + between. What teachers disagree on
    systematically (`between`) is not what one teacher is unsure of (`within`), though
    Eq. 5 adds them up.
    """

    total: jax.Array  # [h, w], Eq. 5
    within: jax.Array  # [t, h, w], of each teacher alone
    between: jax.Array  # [h, w], of the teachers' means


def decompose_variance(samples: jax.Array) -> VarianceParts:
    """Returns the variance parts of samples [t, n, h, w, 3] of t teachers."""
    within = jax.vmap(ensemble_variance)(samples)
    between = ensemble_variance(jnp.mean(samples, axis=1))
    total = ensemble_variance(samples.reshape(-1, *samples.shape[2:]))
    return VarianceParts(total, within, between)


class EnsembleStatistics(NamedTuple):
    """What is kept of a tile's samples."""

    mean: jax.Array  # [h, w, 3], Eq. 4
    teacher_means: jax.Array  # [t, h, w, 3]
    variance: VarianceParts


def ensemble_statistics(samples: jax.Array) -> EnsembleStatistics:
    """Returns mean, teachers' means and variances of samples [t, n, h, w, 3]."""
    return EnsembleStatistics(
        mean=ensemble_mean(samples.reshape(-1, *samples.shape[2:])),
        teacher_means=jax.vmap(ensemble_mean)(samples),
        variance=decompose_variance(samples),
    )
