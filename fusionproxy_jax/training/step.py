"""The student's objective, Eqs. 7-12 with Eq. 14, as an update of its parameters.

A batch holds float32 arrays: visible [b, h, w, 3], infrared [b, h, w, 1],
ensemble_mean [b, h, w, 3], ensemble_variance [b, h, w], and with a panel
`feature_target/<backbone>` [b, gh, gw, c] and `feature_variance/<backbone>` [b, h, w].
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.config import LossConfig, MisalignmentConfig
from fusionproxy_jax.losses.alignment import FeatureStatistics
from fusionproxy_jax.losses.total import total_loss
from fusionproxy_jax.misalignment import sample_misalignment, warp_infrared
from fusionproxy_jax.training.state import Schedule
from fusionproxy_jax.training.update import Batch, Metrics, TrainStep, make_update

PyTree = Any
Apply = Callable[[PyTree, jax.Array, jax.Array], jax.Array]


class PanelFeatures(NamedTuple):
    """The frozen side of Eq. 10: how features are taken, and what is usual for them."""

    backbones: tuple[str, ...]
    """Names, in the order k."""
    extract: Callable[[jax.Array], tuple[jax.Array, ...]]
    """Fused images [b, h, w, 3] to scaled features, one map per backbone."""
    mean_variance: tuple[float, ...]
    """Mean feature variance over the training set, one value per backbone (Eq. 8)."""


def misalign(
    infrared: jax.Array, keys: jax.Array, config: MisalignmentConfig
) -> jax.Array:
    """Returns the infrared images [b, h, w, 1], each moved by its own draw (Eq. 14)."""

    def draw(key: jax.Array) -> PyTree:
        one = sample_misalignment(
            key,
            1,
            translation_px=config.translation_px,
            rotation_deg=config.rotation_deg,
            probability=config.probability,
        )
        return jax.tree.map(lambda leaf: leaf[0], one)

    return warp_infrared(infrared, jax.vmap(draw)(keys))


def _alignment_inputs(
    panel: PanelFeatures | None, fused: jax.Array, batch: Batch
) -> tuple[tuple[jax.Array, ...], FeatureStatistics] | tuple[None, None]:
    """Returns the features and their targets, or nothing when the term is off."""
    names = panel.backbones if panel is not None else ()
    if not names or any(f"feature_target/{name}" not in batch for name in names):
        return None, None
    features = panel.extract(fused)
    # Targets are cached on the backbone's own grid; resampling is linear, so it may
    # follow the mean of Eq. 9.
    target = tuple(
        jax.image.resize(batch[f"feature_target/{name}"], ours.shape, "bilinear")
        for name, ours in zip(names, features, strict=True)
    )
    variance = jnp.stack([batch[f"feature_variance/{name}"] for name in names], axis=1)
    return features, FeatureStatistics(
        target=target,
        variance=variance,
        mean_variance=jnp.asarray(panel.mean_variance, jnp.float32),
    )


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    *,
    loss: LossConfig,
    misalignment: MisalignmentConfig,
    ema_decay: float,
    schedule: Schedule | None = None,
    panel_features: PanelFeatures | None = None,
    axis_name: str | None = None,
) -> TrainStep:
    """Returns the student's update, see `make_update`.

    Args:
        apply: (params, visible, infrared) -> fused, in the computation dtype; the loss
            is taken in float32 whatever that is.
        optimizer: Turns gradients into updates of the student's parameters, the only
            ones that are differentiated.
        loss: Weights and constants of Eqs. 7-12.
        misalignment: Ranges of Eq. 14.
        ema_decay: Limit of the weight average's decay.
        schedule: Step -> learning rate, for the metrics only.
        panel_features: Switches Eq. 10 on, for batches that carry feature targets.
        axis_name: Mapped axis the batch is spread over; None when the batch is whole.
    """
    temperature = math.inf if loss.routing == "uniform" else loss.routing_temperature

    def objective(
        params: PyTree, batch: Batch, keys: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        infrared = misalign(batch["infrared"], keys, misalignment)
        fused = apply(params, batch["visible"], infrared).astype(jnp.float32)
        features, statistics = _alignment_inputs(panel_features, fused, batch)
        per_image, terms = total_loss(
            fused,
            batch["ensemble_mean"],
            batch["ensemble_variance"],
            features,
            statistics,
            pixel_weight=loss.pixel_weight,
            alignment_weight=loss.alignment_weight,
            structure_weight=loss.structure_weight,
            epsilon=loss.epsilon,
            routing_temperature=temperature,
        )
        means = {f"{name}_loss": jnp.mean(value) for name, value in terms.items()}
        return jnp.mean(per_image), means

    return make_update(
        objective,
        optimizer,
        ema_decay=ema_decay,
        schedule=schedule,
        axis_name=axis_name,
    )
