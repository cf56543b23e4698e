"""Settings, data and networks that the tests of the scenic adapter share."""

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn
from strided_backbones import tiny_backbone

from fusionproxy_jax.integrations.scenic import (
    get_dataset,
)
from fusionproxy_jax.training.panel_features import make_panel_features

SIDE = 32
# Of 9 images 5 are held out.
NUM_IMAGES, NUM_HELD_OUT, FRACTION = 9, 5, 0.55
STUDENT = {
    "stem_width": 4,
    "widths": (4,),
    "depths": (1,),
    "stem_stride": 4,
    "kernel_size": 3,
    "normalization": "affine",
    "activation": "relu",
    "response_norm": False,
}
WEIGHTS = {"pixel_weight": 0.7, "alignment_weight": 0.9, "structure_weight": 0.3}


class Convolution(nn.Module):
    """Stands in for the student where the network does not matter."""

    stride: int = 4

    @nn.compact
    def __call__(self, visible, infrared):
        pair = jnp.concatenate([visible, infrared], axis=-1)
        return visible + nn.Conv(3, (3, 3))(pair)


def model_config(**changes):
    return ml_collections.ConfigDict({"model": {"student": STUDENT}, **changes})


def dataset(taught, *, batch_size=4, eval_batch_size=6, num_shards=2, **settings):
    configs = {"cache": str(taught.directory), "validation_fraction": FRACTION}
    return get_dataset(
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        num_shards=num_shards,
        dataset_configs=ml_collections.ConfigDict(configs | settings),
    )


def apply(model, variables, pairs):
    """Fuses as scenic's trainers do in an evaluation."""
    return model.flax_model.apply(
        variables, pairs, train=False, mutable=False, debug=False
    )


def panel_of(cache):
    known = {entry.name: entry for entry in cache.panel}
    backbones = [tiny_backbone("coarse", stride=8, seed=1), tiny_backbone("fine")]
    return make_panel_features(
        backbones,
        [known[backbone.name].scale for backbone in backbones],
        [known[backbone.name].mean_variance for backbone in backbones],
    )


def first_variables(model, side=SIDE):
    """As scenic's trainers make them."""
    pairs = jnp.zeros((2, side, side, 4))
    keys = {"params": jax.random.key(0)}
    return model.flax_model.init(keys, pairs, train=False, debug=False)


def unsharded(batch):
    return {
        key: jnp.asarray(array.reshape(-1, *array.shape[2:]))
        for key, array in batch.items()
    }
