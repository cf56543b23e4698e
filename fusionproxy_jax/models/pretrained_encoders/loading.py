"""Reads an ImageNet checkpoint as the beginning of a student's two encoders."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile, open_checkpoint
from fusionproxy_jax.checkpoints.conversion import convert
from fusionproxy_jax.checkpoints.weights import Parameters, flatten
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.pretrained_encoders.batch_norms import folded, template_of
from fusionproxy_jax.models.pretrained_encoders.fit import check_fit, recognised
from fusionproxy_jax.models.pretrained_encoders.image_range import (
    for_infrared,
    for_visible,
)

_PREFIXES = ("module.", "convnextv2.")


class PretrainedEncoders(NamedTuple):
    """Parameters of a student's encoders, all of them or some.

    Attributes:
        visible: Nested dicts of arrays, float32.
        infrared: The same for one channel.
        report: One sentence on what was loaded and what was not.
    """

    visible: Parameters
    infrared: Parameters
    report: str


def load_pretrained_encoders(
    path: str | Path, config: StudentConfig
) -> PretrainedEncoders:
    """Returns what a file holds for the encoders of a student.

    The kind of file follows from its keys. Stages and blocks that the student lacks are
    left out; of those it has, every tensor must be known and fit. An encoder's
    parameters that the published network lacks are not among the result.

    Args:
        path: A torch or safetensors file.
        config: The student.

    Raises:
        FusionProxyError: The file is missing, damaged, of another kind, or does not fit
            the student; nothing was loaded.
    """
    with open_checkpoint(path) as source:
        names = _names(source)
        published = recognised(source.path, names)
        check_fit(published, source, names, config)
        shapes = flatten(_shapes(config))
        table = published.rules(config.depths, names)
        params = convert(
            source,
            table,
            template_of(table, shapes),
            ignored=published.left_out(config.depths, names),
            prefixes=_PREFIXES,
        )
    # One program: operation by operation, every shape is compiled for itself.
    visible, infrared = jax.jit(_for_pairs)(params)
    loaded = flatten(visible)
    facts = [
        f"both encoders start from {source.path.name}, {published.name}: {len(table)} "
        f"of its {len(names)} tensors set {_sizes(shapes, loaded)} parameters",
        "infrared takes the stem's sum over the colours",
        *_new(shapes, loaded),
        *published.differences(config),
    ]
    return PretrainedEncoders(visible, infrared, "; ".join(facts))


def _names(source: CheckpointFile) -> dict[str, str]:
    """Returns names without prefixes -> the file's keys."""
    names = {}
    for key in source.keys():
        name = key
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        names[name] = key
    return names


def _for_pairs(params: Parameters) -> tuple[Parameters, Parameters]:
    """Returns the visible and the infrared encoder's parameters."""
    params = folded(params)
    visible = {**params, "stem": for_visible(params["stem"])}
    return visible, {**visible, "stem": for_infrared(visible["stem"])}


def _shapes(config: StudentConfig) -> Any:
    """Returns the visible encoder's parameters as shapes."""
    # Of the two forms the one that is traced faster.
    encoder = build_encoder(config, grouped=True)
    image = jnp.zeros((1, encoder.stride, encoder.stride, 3))
    return jax.eval_shape(encoder.init, jax.random.key(0), image)["params"]


def _sizes(shapes: dict[str, Any], loaded: dict[str, Any]) -> str:
    """Returns how many numbers were loaded, of how many."""
    have, all_ = (
        sum(int(np.prod(shapes[path].shape)) for path in paths)
        for paths in (loaded, shapes)
    )
    return f"all {all_:,}" if have == all_ else f"{have:,} of {all_:,}"


def _new(shapes: dict[str, Any], loaded: dict[str, Any]) -> list[str]:
    """Returns the layers that were not loaded, as a list of one sentence or none."""
    layers = dict.fromkeys(path.split("/")[0] for path in shapes if path not in loaded)
    return [f"new are {', '.join(layers)}"] if layers else []
