"""`fusionproxy bench training --depthwise`: one sum, the ways to write it compared.

Which form of a depthwise convolution is faster depends on the backend, and on the way
back not for the same reasons as on the way there. The shapes are those of students at
the size they train on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.evaluation.complexity import pair_shapes, parameter_shapes
from fusionproxy_jax.evaluation.depthwise_shapes import (
    DepthwiseShape,
    depthwise_shapes,
)
from fusionproxy_jax.evaluation.latency import measure_rounds
from fusionproxy_jax.models.depthwise import (
    depthwise,
    grouped_convolution,
    shifted_products,
)
from fusionproxy_jax.training.model_flops import countable_student

FORMS: Mapping[str, Callable[..., jax.Array]] = {
    "grouped": grouped_convolution,
    "shifted": shifted_products,
}
FORWARD, BOTH_WAYS = "forward", "forward and backward"


def bench_depthwise(
    students: Mapping[str, StudentConfig],
    *,
    batch_size: int,
    side_px: int,
    dtype: str,
    num_rounds: int,
) -> tuple[dict[str, Any], list[str]]:
    """Returns report and table of all forms at all shapes of the students.

    Args:
        students: By name.
        batch_size: Of a training step.
        side_px: Of its crops.
        dtype: Of the computation.
        num_rounds: Timed calls of each form, taking turns.
    """
    uses = {
        name: _shapes_of(config, batch_size, side_px)
        for name, config in students.items()
    }
    shapes = sorted(set().union(*uses.values()))
    rows = []
    for shape in shapes:
        milliseconds = _measure(shape, dtype, num_rounds)
        rows.append(
            {
                **shape._asdict(),
                "uses": {name: found[shape] for name, found in uses.items()},
                "default": _default_form(shape, dtype),
                "milliseconds": milliseconds,
            }
        )
    # All of a student's depthwise convolutions in one step.
    totals = {
        name: {
            form: sum(
                row["uses"][name] * row["milliseconds"][form][BOTH_WAYS] for row in rows
            )
            for form in FORMS
        }
        for name in students
    }
    report = {"dtype": dtype, "rows": rows, "step_milliseconds": totals}
    return report, _table(report)


def _shapes_of(
    config: StudentConfig, batch_size: int, side_px: int
) -> Mapping[DepthwiseShape, int]:
    module = countable_student(config)
    pair = pair_shapes(side_px, side_px, batch_size=batch_size)
    params = parameter_shapes(module, *pair)
    return depthwise_shapes(
        lambda params, *pair: module.apply({"params": params}, *pair), params, *pair
    )


def _arrays(shape: DepthwiseShape, dtype: str) -> tuple[jax.Array, jax.Array]:
    """Returns feature maps and a kernel of noise."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape[:4], np.float32)
    size = shape.kernel_size
    kernel = generator.standard_normal((size, size, 1, shape.channels), np.float32)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def _default_form(shape: DepthwiseShape, dtype: str) -> str:
    """Returns the form that students take on this backend."""
    found = depthwise_shapes(
        lambda *inputs: depthwise(*inputs, stride=shape.stride), *_arrays(shape, dtype)
    )
    return "grouped" if found else "shifted"


def _measure(
    shape: DepthwiseShape, dtype: str, num_rounds: int
) -> dict[str, dict[str, float]]:
    """Returns the median milliseconds of each form, forward and both ways."""
    x, kernel = _arrays(shape, dtype)
    calls = {}
    for name, convolve in FORMS.items():

        def forward(x, kernel, convolve=convolve):
            return convolve(x, kernel, shape.stride)

        def both_ways(x, kernel, cotangent, forward=forward):
            result, backward = jax.vjp(forward, x, kernel)
            return result, backward(cotangent)

        cotangent = jnp.ones_like(jax.eval_shape(forward, x, kernel))
        calls[name, FORWARD] = _call(forward, x, kernel)
        calls[name, BOTH_WAYS] = _call(both_ways, x, kernel, cotangent)
    rounds = measure_rounds(calls, num_warmup=1, num_rounds=num_rounds)
    return {
        name: {way: float(np.median(rounds[name, way])) for way in (FORWARD, BOTH_WAYS)}
        for name in FORMS
    }


def _call(function: Callable[..., Any], *inputs: jax.Array) -> Callable[[], object]:
    compiled = jax.jit(function).lower(*inputs).compile()
    return lambda: jax.block_until_ready(compiled(*inputs))


def _table(report: dict[str, Any]) -> list[str]:
    columns = [f"{form} {way}" for way in ("fwd", "both") for form in FORMS]
    lines = [
        f"depthwise convolutions, {report['dtype']}, ms a call",
        f"{'input':<20}{'kernel':>7}{'stride':>8}"
        + "".join(f"{column:>14}" for column in columns)
        + f"{'faster both ways':>18}{'default':>9}",
    ]
    for row in report["rows"]:
        times = row["milliseconds"]
        faster = min(FORMS, key=lambda form: times[form][BOTH_WAYS])
        shape = "x".join(
            str(row[axis]) for axis in ("batch", "height", "width", "channels")
        )
        lines.append(
            f"{shape:<20}{row['kernel_size']:>7}{row['stride']:>8}"
            + "".join(
                f"{times[form][way]:>14.3f}"
                for way in (FORWARD, BOTH_WAYS)
                for form in FORMS
            )
            + f"{faster:>18}{row['default']:>9}"
        )
    for name, total in report["step_milliseconds"].items():
        lines.append(
            f"{name}: all of them take a step "
            + " or ".join(f"{total[form]:.1f} ms {form}" for form in FORMS)
        )
    return lines
