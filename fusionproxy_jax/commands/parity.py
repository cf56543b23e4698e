"""`fusionproxy parity`: deployed forms of a student beside the float32 one."""

import json as json_format
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fusionproxy_jax.commands.size import parse_size
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path

if TYPE_CHECKING:
    from fusionproxy_jax.evaluation.parity import FormParity


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where pairs come from."""

    sources: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="DIR [DIR ...]",
            help="Folders of pairs, or tfds:NAME for prepared data sets.",
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Compare deployed forms of a student with a reference, on real pairs.

    fusionproxy parity small small_int8 --data.sources roadscene msrs

    Errors are in grey levels of 255. PSNR is of the squared error over all pairs, and
    of the worst pair; metrics are told as mean change. A form is finite if neither the
    pairs nor white, black, checkerboard, noise and half-and-half images gave inf or
    NaN. Files of one size are compared on pairs resized to it.
    """

    reference: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="REFERENCE", help="A shipped name such as base, or an ONNX file."
        ),
    ]
    forms: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="OTHER [OTHER ...]", help="What is compared with it."),
    ]
    data: Sources = field(default_factory=Sources)
    pairs: Annotated[
        int,
        tyro.conf.arg(
            metavar="N", help="So many pairs of the sources, the same ones each time."
        ),
    ] = 32
    validation_fraction: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="F",
            help="Only of the pairs that training with this data.validation-fraction "
            "on the same folders holds out.",
        ),
    ] = None
    extreme_sizes: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="HxW [HxW ...]",
            help="Sizes of the extreme images, for forms that take any.",
        ),
    ] = ("480x640", "1080x1920")
    json: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help="Write the report here.")
    ] = None

    def _split(self) -> dict[str, Any]:
        if self.validation_fraction is None:
            return {}
        return {"split": "validation", "validation_fraction": self.validation_fraction}

    def run(self) -> int:
        """Prints the table; returns 1 where a form gave inf or NaN."""
        if self.json is not None and not self.json.parent.is_dir():
            raise FusionProxyError(
                f"there is no folder {self.json.parent} for {self.json}"
            )
        if not self.forms:
            raise FusionProxyError(
                f"nothing is given to compare with {self.reference}; name one ONNX "
                "file or more behind it"
            )
        sizes = [parse_size(text) for text in self.extreme_sizes]
        # Load ONNX Runtime, which --help does not need.
        from fusionproxy_jax.evaluation.deployed_form import DeployedForm
        from fusionproxy_jax.evaluation.parity import measure_parity
        from fusionproxy_jax.input_pipeline.sampled_pairs import SampledPairs

        paths = [_path(text) for text in (self.reference, *self.forms)]
        # Pairs are worked on in parallel; threads of a network's own would not help.
        reference, *forms = (
            DeployedForm(name, path, threads=1)
            for name, path in zip(_names(paths), paths, strict=True)
        )
        pairs = SampledPairs(self.data.sources, self.pairs, **self._split())
        results = measure_parity(
            reference,
            forms,
            pairs,
            extreme_sizes=sizes,
            progress=_Progress(len(pairs)),
        )
        megabytes = [path.stat().st_size / 1e6 for path in paths]
        print(f"{reference.source} on {len(pairs)} pairs, {megabytes[0]:.2f} MB")
        print("\n".join(table(results, megabytes[1:])))
        if self.json is not None:
            report = {
                "reference": reference.source,
                "pairs": [name for name, _ in pairs],
                "extreme_sizes": list(self.extreme_sizes),
                "forms": [
                    asdict(result) | {"bytes": path.stat().st_size}
                    for result, path in zip(results, paths[1:], strict=True)
                ],
            }
            with atomic_path(self.json) as temporary:
                temporary.write_text(
                    json_format.dumps(_finite(report), indent=2) + "\n"
                )
        return int(any(result.not_finite for result in results))


def table(results: Sequence["FormParity"], megabytes: Sequence[float]) -> list[str]:
    """Returns the lines of the table; what has no error has `exact` for its PSNR."""
    from fusionproxy_jax.evaluation.metrics import METRICS

    width = max(len("form"), *(len(result.form) for result in results)) + 2
    lines = [
        f"{'form':<{width}}{'MB':>6}{'max':>7}{'mean':>8}{'PSNR':>7}{'worst':>7}"
        + "".join(f"{metric:>9}" for metric in METRICS)
        + "  finite"
    ]
    for result, size in zip(results, megabytes, strict=True):
        levels = (
            "exact" if value is None else f"{value:.1f}"
            for value in (result.psnr_db, result.worst_psnr_db)
        )
        lines.append(
            f"{result.form:<{width}}{size:>6.2f}{result.max_error:>7.1f}"
            f"{result.mean_error:>8.3f}"
            + "".join(f"{text:>7}" for text in levels)
            + "".join(
                f"{result.metric_change[metric]:>+9.4f}"
                if metric in result.metric_change
                else f"{'':>9}"
                for metric in METRICS
            )
            + (
                f"  no: {', '.join(result.not_finite)}"
                if result.not_finite
                else "  yes"
            )
        )
    return lines


def _path(text: str) -> Path:
    """Returns the file of a shipped name or of a path."""
    # Loads ONNX Runtime, which --help does not need.
    from fusionproxy_jax.runtime.fuser import WEIGHTS

    for path in (Path(text), WEIGHTS / f"{text}.onnx"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in WEIGHTS.glob("*.onnx")))
    raise FusionProxyError(
        f"there is no ONNX file {text}; give paths of .onnx files, or shipped ones by "
        f"name: {names}"
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns the files' names, with their folders where names alone are not enough."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


class _Progress:
    """A counter on the terminal; silent where stderr is none."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self) -> None:
        self._done += 1
        if sys.stderr.isatty():
            end = "\n" if self._done == self._total else ""
            print(f"\r{self._done}/{self._total} pairs", end=end, file=sys.stderr)


def _finite(value: Any) -> Any:
    """Returns a report without inf and NaN, which JSON has no words for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
