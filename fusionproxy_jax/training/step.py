"""The student's objective, Eqs. 7-12 with Eq. 14, as an update of its parameters.

A batch holds float32 arrays: visible [b, h, w, 3], infrared [b, h, w, 1],
ensemble_mean [b, h, w, 3], ensemble_variance [b, h, w], and with a panel
`feature_target/<backbone>` [b, gh, gw, c] and `feature_variance/<backbone>` [b, g, g].
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fusionproxy_jax.losses.alignment import (
    Alignment,
    ChannelNorm,
    feature_distances,
)
from fusionproxy_jax.losses.routing import normalised_routing_entropy
from fusionproxy_jax.losses.routing_variants import Routing
from fusionproxy_jax.losses.total import total_loss
from fusionproxy_jax.misalignment import sample_misalignment, warp_infrared
from fusionproxy_jax.training.knobs import Knobs
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.routing import split_routing
from fusionproxy_jax.training.state import Schedule
from fusionproxy_jax.training.update import (
    Batch,
    Circumstances,
    Metrics,
    TrainStep,
    make_update,
)

PyTree = Any
Apply = Callable[[PyTree, jax.Array, jax.Array], jax.Array]


def misalign(infrared: jax.Array, keys: jax.Array, knobs: Knobs) -> jax.Array:
    """Returns the infrared images [b, h, w, 1], each moved by its own draw (Eq. 14)."""

    def draw(key: jax.Array) -> PyTree:
        one = sample_misalignment(
            key,
            1,
            translation_px=knobs.translation_px,
            rotation_deg=knobs.rotation_deg,
            probability=knobs.probability,
        )
        return jax.tree.map(lambda leaf: leaf[0], one)

    return warp_infrared(infrared, jax.vmap(draw)(keys))


def make_alignment(
    panel: PanelFeatures,
    routing: Routing,
    fused: jax.Array,
    batch: Batch,
    *,
    circumstances: Circumstances,
    routing_params: PyTree,
) -> tuple[Alignment, Metrics]:
    """Returns what Eq. 10 compares, and how the routing goes in every image [b].

    Metrics: `routing_weight/<backbone>` is its mean weight, `routing_entropy` in [0, 1]
    is 1 for uniform weights, `feature_distance/<backbone>` is the mean distance without
    weights.
    """
    names = panel.backbones
    alignment = Alignment(
        features=panel.extract(circumstances.frozen, fused),
        target=tuple(batch[f"feature_target/{name}"] for name in names),
        weights=routing(
            jnp.stack([batch[f"feature_variance/{name}"] for name in names], axis=1),
            jnp.asarray(panel.mean_variance, jnp.float32),
            circumstances.step,
            routing_params,
        ),
    )
    weights = alignment.weights
    distances = feature_distances(
        alignment.features, alignment.target, weights.shape[2:]
    )
    metrics = {
        "routing_entropy": _mean_over_places(normalised_routing_entropy(weights))
    }
    for index, name in enumerate(names):
        metrics[f"routing_weight/{name}"] = _mean_over_places(weights[:, index])
        metrics[f"feature_distance/{name}"] = _mean_over_places(distances[:, index])
    return alignment, metrics


def _mean_over_places(maps: jax.Array) -> jax.Array:
    return jnp.mean(maps, axis=(1, 2))


def make_train_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    *,
    knobs: Knobs,
    alignment_norm: ChannelNorm = "mean",
    schedule: Schedule | None = None,
    panel: PanelFeatures | None = None,
    routing: Routing | None = None,
    num_parts: int = 1,
    axis_name: str | None = None,
) -> TrainStep:
    """Returns the student's update, see `make_update`.

    Args:
        apply: (params, visible, infrared) -> fused, in the computation dtype; the loss
            is taken in float32 whatever that is.
        optimizer: Turns gradients into updates of the parameters, the student's and a
            learned routing's, the only ones that are differentiated.
        knobs: Constants of Eqs. 7-14 and the weight average's decay; those of the
            optimiser and of a temperature are read where `optimizer` and `routing` are
            made.
        alignment_norm: See `feature_distances`.
        schedule: Step -> learning rate, for the metrics only.
        panel: Switches Eq. 10 on; the step's `frozen` must be the panel's.
        routing: How backbones are weighted; needed with a panel.
        num_parts: See `make_update`.
        axis_name: Mapped axis the batch is spread over; None when the batch is whole.
    """

    def objective(
        params: PyTree, batch: Batch, circumstances: Circumstances
    ) -> tuple[jax.Array, Metrics]:
        student, routing_params = split_routing(params)
        infrared = misalign(batch["infrared"], circumstances.keys, knobs)
        fused = apply(student, batch["visible"], infrared).astype(jnp.float32)
        alignment, metrics = None, {}
        if panel is not None:
            alignment, metrics = make_alignment(
                panel,
                routing,
                fused,
                batch,
                circumstances=circumstances,
                routing_params=routing_params,
            )
        per_image, terms = total_loss(
            fused,
            batch["ensemble_mean"],
            batch["ensemble_variance"],
            alignment,
            pixel_weight=knobs.pixel_weight,
            alignment_weight=knobs.alignment_weight,
            structure_weight=knobs.structure_weight,
            epsilon=knobs.epsilon,
            alignment_norm=alignment_norm,
        )
        losses = {f"{name}_loss": values for name, values in terms.items()}
        return per_image, losses | metrics

    return make_update(
        objective,
        optimizer,
        ema_decay=knobs.ema_decay,
        schedule=schedule,
        num_parts=num_parts,
        axis_name=axis_name,
    )
