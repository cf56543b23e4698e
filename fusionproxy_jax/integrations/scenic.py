"""google-research/scenic: our students, Eq. 12 and teacher caches in its trainers.

In a project's main file, where scenic gives `rng`, `config`, `workdir` and `writer`:

    register_dataset()
    dataset = train_utils.get_dataset(config, data_rng)
    train(rng=rng, config=config, model_cls=fusion_model(), dataset=dataset, ...)

with config.dataset_name = "fusionproxy", config.dataset_configs as `get_dataset` says
and the settings of `fusion_model`'s class. Batches are float32 but for `inputs`, which
have the data's dtype; s shards of b images, mapped away inside a step:

======================================  ===============  ===============================
key                                     shape            meaning
======================================  ===============  ===============================
inputs                                  [s, b, h, w, 4]  visible RGB, then infrared
batch_mask                              [s, b]           1 for an image, 0 for padding
ensemble_mean                           [s, b, h, w, 3]  as the loader's, and so below
ensemble_variance                       [s, b, h, w]
feature_target/, feature_variance/NAME  as the loader's  with a panel
======================================  ===============  ===============================

What is learned there is our student's own parameter tree. Misalignment (Eq. 14) belongs
to our training step, not to the loss: scenic's trainers see aligned pairs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from fusionproxy_jax.config import LossConfig, StudentConfig, from_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.schema import FEATURE_TARGET, FEATURE_VARIANCE
from fusionproxy_jax.integrations.scenic_dataset import get_dataset, register_dataset
from fusionproxy_jax.integrations.scenic_import import scenic_module
from fusionproxy_jax.losses.alignment import Alignment
from fusionproxy_jax.losses.routing_variants import Routing, variance_routing
from fusionproxy_jax.losses.total import total_loss
from fusionproxy_jax.models.variants import build_student, student_config

__all__ = ["Panel", "fusion_model", "get_dataset", "register_dataset"]

_LOSS_SETTINGS = (
    "pixel_weight",
    "alignment_weight",
    "structure_weight",
    "epsilon",
    "alignment_norm",
    "routing_temperature",
)
Batch = Mapping[str, jax.Array]
# The name scenic's trainers give to the axis of devices.
_AXIS = "batch"


class Panel(Protocol):
    """Backbones of Eq. 10, as `training.panel_features.load_panel_features` gives."""

    backbones: tuple[str, ...]
    extract: Callable[[Any, jax.Array], tuple[jax.Array, ...]]
    frozen: Any
    mean_variance: tuple[float, ...]


class StackedPairStudent(nn.Module):
    """A student as scenic calls a network; the parameters are the student's own."""

    student: nn.Module

    def setup(self) -> None:
        """Leaves no level of its own in the tree of parameters."""
        nn.share_scope(self, self.student)

    def __call__(
        self, inputs: jax.Array, *, train: bool = False, debug: bool = False
    ) -> jax.Array:
        """Returns the fused images [b, h, w, 3] of stacked pairs [b, h, w, 4]."""
        inputs = inputs.astype(jnp.float32)
        return self.student(inputs[..., :3], inputs[..., 3:])


def fusion_model(panel: Panel | None = None, routing: Routing | None = None) -> type:
    """Returns a subclass of scenic's `BaseModel` that trains one of our students.

    It reads of its config: model.student, a name of `STUDENTS` or the fields of a
    `StudentConfig`; model_dtype_str; loss, fields of a `LossConfig`.

    Args:
        panel: What Eq. 10 aligns to, needs `dataset_configs.panel` of the same names;
            its weights become constants of the compiled step. None leaves Eq. 10 out.
        routing: How backbones are weighted, at step 0 and without parameters; None is
            Eq. 8 at loss.routing_temperature.

    Raises:
        FusionProxyError: google-research/scenic cannot be imported.
    """
    base_model = scenic_module("model_lib.base_models.base_model")

    class FusionModel(base_model.BaseModel):
        """Student, Eq. 12 and its terms as metrics."""

        def build_flax_model(self) -> nn.Module:
            """Returns the student on stacked pairs."""
            self.loss = _loss_config(self.config.get("loss") or {})
            student = (self.config.get("model") or {}).get("student", "base")
            dtype = self.config.get("model_dtype_str", "float32")
            module = build_student(_student(student), dtype=jnp.dtype(dtype))
            side_px = self.dataset_meta_data.get("input_shape", (0, 0))[1]
            if side_px % module.stride:
                raise FusionProxyError(
                    f"dataset_configs.crop_px is {side_px}; this student needs a "
                    f"multiple of {module.stride}"
                )
            return StackedPairStudent(module)

        def default_flax_model_config(self):
            """Returns the settings of student `base` and the paper's weights."""
            import ml_collections

            loss = {name: getattr(LossConfig(), name) for name in _LOSS_SETTINGS}
            return ml_collections.ConfigDict(
                {
                    "model": {"student": "base"},
                    "model_dtype_str": "float32",
                    "loss": loss,
                }
            )

        def loss_function(self, outputs, batch, model_params=None) -> jax.Array:
            """Returns the mean of Eq. 12 over the images that are no padding."""
            sums = _masked_sums(self._terms(outputs, batch), batch)
            value, count = sums["loss"]
            return value / jnp.maximum(count, 1e-6)

        def get_metrics_fn(self, split: str | None = None) -> Callable:
            """Returns (outputs, batch) -> name -> (sum, images), of all devices."""
            return lambda outputs, batch: jax.lax.psum(
                _masked_sums(self._terms(outputs, batch), batch), _AXIS
            )

        def get_metrics_fn_jit(self, split: str | None = None) -> Callable:
            """Returns the same for a step whose arrays hold the whole batch."""
            return lambda outputs, batch: _masked_sums(
                self._terms(outputs, batch), batch
            )

        def _terms(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
            """Returns Eq. 12 and its terms, [b] each."""
            weights = routing or variance_routing(self.loss.routing_temperature)
            per_image, terms = total_loss(
                outputs,
                batch["ensemble_mean"],
                batch["ensemble_variance"],
                None if panel is None else _alignment(panel, weights, outputs, batch),
                pixel_weight=self.loss.pixel_weight,
                alignment_weight=self.loss.alignment_weight,
                structure_weight=self.loss.structure_weight,
                epsilon=self.loss.epsilon,
                alignment_norm=self.loss.alignment_norm,
            )
            named = {f"{name}_loss": value for name, value in terms.items()}
            return {"loss": per_image, **named}

    return FusionModel


def _masked_sums(
    terms: Mapping[str, jax.Array], batch: Batch
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns (sum, number) of each term over the images that are no padding."""
    mask = batch.get("batch_mask")
    if mask is None:
        mask = jnp.ones_like(terms["loss"])
    return {
        # Where, not a product: what padding gives may be anything.
        name: (jnp.sum(jnp.where(mask > 0, mask * value, 0.0)), jnp.sum(mask))
        for name, value in terms.items()
    }


def _alignment(
    panel: Panel, routing: Routing, fused: jax.Array, batch: Batch
) -> Alignment:
    """Returns what Eq. 10 compares."""
    missing = [name for name in panel.backbones if FEATURE_TARGET + name not in batch]
    if missing:
        raise FusionProxyError(
            f"batches have no features of {', '.join(missing)}; name the model's "
            "backbones in dataset_configs.panel"
        )
    variances = [batch[FEATURE_VARIANCE + name] for name in panel.backbones]
    return Alignment(
        features=panel.extract(panel.frozen, fused),
        target=tuple(batch[FEATURE_TARGET + name] for name in panel.backbones),
        weights=routing(
            jnp.stack(variances, axis=1), jnp.asarray(panel.mean_variance, jnp.float32)
        ),
    )


def _student(given: str | Mapping[str, Any]) -> StudentConfig:
    if isinstance(given, str):
        return student_config(given)
    try:
        return from_json(StudentConfig, dict(given))
    except TypeError as error:
        raise FusionProxyError(
            f"model.student has fields that are not those of a StudentConfig: {error}"
        ) from error


def _loss_config(given: Mapping[str, Any]) -> LossConfig:
    unknown = sorted(set(given) - set(_LOSS_SETTINGS))
    if unknown:
        raise FusionProxyError(
            f"loss has {', '.join(unknown)}; with scenic it takes "
            f"{', '.join(_LOSS_SETTINGS)}, and another routing is an argument of "
            "fusion_model"
        )
    return LossConfig(**dict(given))
