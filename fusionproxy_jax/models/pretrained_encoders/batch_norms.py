"""Batch-normalised convolutions of a checkpoint as the layers of an affine student.

One of our parameters comes from several tensors there. So the parts are loaded first,
under names of their own beside the ones they make, and put together then.
"""

from collections.abc import Mapping
from typing import Any

from fusionproxy_jax.checkpoints.weights import Parameters
from fusionproxy_jax.models.normalization import folded_batch_norm
from fusionproxy_jax.models.pretrained_encoders.published import Rules


def batch_normalised(
    convolution: str, norm: str, target: str, *, biased: bool
) -> Rules:
    """Returns the rules of a `ConvNorm` from torch's convolution and normalisation.

    Args:
        convolution: Name of the convolution in the file.
        norm: Name of the batch normalisation.
        target: The `ConvNorm`.
        biased: Whether the convolution has a bias.
    """
    parts = {
        "weight": "weight",
        "bias": "bias",
        "running_mean": "mean",
        "running_var": "variance",
    }
    rules = {f"{convolution}.weight": (f"{target}/kernel", "conv")}
    if biased:
        rules[f"{convolution}.bias"] = (f"{target}/norm/convolution_bias", "as_is")
    for theirs, ours in parts.items():
        rules[f"{norm}.{theirs}"] = (f"{target}/norm/{ours}", "as_is")
    return rules


def template_of(table: Rules, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves that the rules set, the parts of normalisations among them.

    Args:
        table: Rules.
        shapes: Our parameters by their paths; leaves need only a `shape`.
    """
    template = {}
    for target, _ in table.values():
        # All parts of a normalisation have one number per channel.
        bias = f"{target.rpartition('/')[0]}/bias"
        template[target] = shapes[target if target in shapes else bias]
    return template


def folded(params: Parameters) -> Parameters:
    """Returns the parameters with every batch normalisation as scale and bias."""
    if "mean" not in params:
        return {
            name: folded(value) if isinstance(value, dict) else value
            for name, value in params.items()
        }
    # A bias of the convolution is taken off again with the mean.
    mean = params["mean"] - params.get("convolution_bias", 0.0)
    return folded_batch_norm(params["weight"], params["bias"], mean, params["variance"])
