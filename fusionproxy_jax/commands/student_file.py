"""Reads a released student: the network its weights file names, and its parameters."""

from pathlib import Path
from typing import Any

from fusionproxy_jax.checkpoints.weights import check_parameters, load_weights
from fusionproxy_jax.config import StudentConfig, from_json
from fusionproxy_jax.errors import FusionProxyError


def read_student(path: Path) -> tuple[StudentConfig, Any, dict[str, Any]]:
    """Returns configuration, parameters and training summary of a released student.

    Raises:
        FusionProxyError: The file is missing, damaged, of another program, or its
            parameters do not fit the network it names.
    """
    from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
    from fusionproxy_jax.models.variants import build_student

    params, metadata = load_weights(path)
    try:
        config = from_json(StudentConfig, metadata["student"])
    except (KeyError, TypeError, AttributeError) as error:
        raise FusionProxyError(
            f"{path} does not say which student it holds ({error}); use a file written "
            "by `fusionproxy export`"
        ) from error
    module = build_student(config)
    shapes = parameter_shapes(module, *pair_shapes(module.stride, module.stride))
    check_parameters(params, shapes, source=str(path))
    return config, params, metadata.get("training", {})
