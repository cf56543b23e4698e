"""What a new run begins with: random parameters, a student's, or ImageNet encoders."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from fusionproxy_jax.checkpoints.weights import (
    Parameters,
    check_parameters,
    flatten,
    load_weights,
    unflatten,
)
from fusionproxy_jax.config import Config
from fusionproxy_jax.models.pretrained_encoders.loading import load_pretrained_encoders
from fusionproxy_jax.runtime.fuser import WEIGHTS
from fusionproxy_jax.training.routing import split_routing
from fusionproxy_jax.training.state import InitParams


def first_params(
    config: Config, random: InitParams, *, tell: Callable[[str], None]
) -> InitParams:
    """Returns key -> first parameters, by `start_from` and `encoder_weights`.

    A learned routing always begins anew: it belongs to one panel.

    Args:
        config: The run.
        random: Key -> random parameters of its student.
        tell: Called with a sentence on what was loaded of `encoder_weights`.

    Raises:
        FusionProxyError: A file is missing, damaged, or does not fit the student.
    """
    if config.start_from is not None:
        return _student_at(config.start_from, random)
    if config.encoder_weights is not None:
        return _with_encoders(config, config.encoder_weights, random, tell)
    return random


def _student_at(name: str, random: InitParams) -> InitParams:
    path = Path(name)
    if not path.suffix:
        path = WEIGHTS / f"{name}.safetensors"
    params, _ = load_weights(path)
    shapes, _ = split_routing(jax.eval_shape(random, jax.random.key(0)))
    check_parameters(params, shapes, source=str(path))
    return lambda key: random(key) | jax.tree.map(jnp.asarray, params)


def _with_encoders(
    config: Config, path: str, random: InitParams, tell: Callable[[str], None]
) -> InitParams:
    visible, infrared, report = load_pretrained_encoders(path, config.student)
    tell(report)

    def init_params(key: jax.Array) -> Parameters:
        params = random(key)
        encoders = {"visible_encoder": visible, "infrared_encoder": infrared}
        return params | {
            # Layers that the file lacks stay random.
            name: unflatten(flatten(params[name]) | flatten(loaded))
            for name, loaded in encoders.items()
        }

    return init_params
