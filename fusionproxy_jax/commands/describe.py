"""`fusionproxy describe`: what a network costs, counted from the network itself."""

import json as json_format
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fusionproxy_jax.commands.size import parse_size
from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError

if TYPE_CHECKING:
    from fusionproxy_jax.evaluation.complexity import Complexity


def describe_student(config: StudentConfig, height: int, width: int) -> "Complexity":
    """Returns what the student of `config` costs on a pair, padded to its stride."""
    from fusionproxy_jax.evaluation.complexity import complexity, pair_shapes
    from fusionproxy_jax.models.variants import build_student

    # Interpolation counts as nothing; JAX writes it as products with dense matrices.
    module = build_student(config, grouped=True, upsample=_repeat)
    stride = module.stride
    return complexity(
        module, *pair_shapes(height + -height % stride, width + -width % stride)
    )


def _repeat(x: Any) -> Any:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _describe_named(name: str, height: int, width: int) -> "Complexity":
    from fusionproxy_jax.models.variants import STUDENTS

    if name not in STUDENTS:
        raise FusionProxyError(
            f"no network {name!r}; give {', '.join(sorted(STUDENTS))} or the path of "
            "an .onnx file"
        )
    return describe_student(STUDENTS[name], height, width)


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Parameters and multiply-adds of a network at one image size.

    Convolutions and matrix products are counted, as usual; normalisation, activations
    and interpolation are not. A student pads images to multiples of its stride.
    """

    # A named network, or an ONNX file of `fusionproxy export`.
    network: tyro.conf.Positional[str] = "base"
    # Image size, height x width.
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = "480x640"
    # Prints JSON instead of a table.
    json: bool = False

    def run(self) -> None:
        """Prints the description."""
        height, width = parse_size(self.size)
        description: dict[str, Any] = {"network": self.network, "size": self.size}
        if Path(self.network).suffix.lower() == ".onnx":
            from fusionproxy_jax.evaluation.onnx_complexity import onnx_complexity

            parameters, multiply_adds = onnx_complexity(
                Path(self.network), height=height, width=width
            )
            description |= {"parameters": parameters, "multiply_adds": multiply_adds}
        else:
            cost = _describe_named(self.network, height, width)
            description |= {
                "parameters": cost.parameters,
                "multiply_adds": cost.multiply_adds,
                "by_module": {
                    name: {"parameters": parameters, "multiply_adds": multiply_adds}
                    for name, (parameters, multiply_adds) in cost.by_module.items()
                },
            }
        if self.json:
            print(json_format.dumps(description, indent=2))
        else:
            print("\n".join(_table(description)))


def _table(description: Mapping[str, Any]) -> list[str]:
    rows = {**description.get("by_module", {}), "total": description}
    return [
        f"{description['network']} at {description['size']}",
        f"{'':<18}{'parameters':>14}{'multiply-adds':>18}",
        *(
            f"{name:<18}{row['parameters']:>14,}{row['multiply_adds']:>18,}"
            for name, row in rows.items()
        ),
    ]
