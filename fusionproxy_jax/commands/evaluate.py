"""`fusionproxy evaluate`: fusion metrics of students beside those of the controls."""

import csv as csv_format
import json as json_format
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.evaluation.controls import CONTROLS
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.evaluation.report import mean_metrics, mean_ranks, table
from fusionproxy_jax.evaluation.survey import (
    Measured,
    Method,
    measure_pairs,
    pictures,
    read_pair,
)
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.runtime.pairing import PairPaths, find_pairs


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure students and four controls on pairs of images.

    fusionproxy evaluate --pairs roadscene msrs --model base nano

    Prints, for every data set, the mean of nine fusion metrics for each method and its
    mean rank over them. The controls need no network: the average (mean), the
    brighter of both (max), infrared with visible detail (msx) and a Laplacian pyramid
    (lp). Teacher ensembles can be measured beside them (--teacher). Images are compared
    with 8 bits at the size of the visible image.
    """

    pairs: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(metavar="DIR [DIR ...]", help="Folders of pairs."),
    ]
    model: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME|FILE.onnx [...]",
            help="Students: nano, small, base, nano_int8, small_int8, or exported "
            "ONNX files.",
        ),
    ] = ("small",)
    teacher: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME[:MODE][+NAME...] [...]",
            help="Ensembles whose mean is measured too: ddfm+mask_difuser, "
            "gaussian:balanced, average. Needs the extra `train`.",
        ),
    ] = ()
    teachers_config: Annotated[
        TeacherConfig,
        tyro.conf.arg(name="ensemble", help="Settings of the ensembles."),
    ] = field(default_factory=TeacherConfig)
    limit: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N", help="Pairs per data set, evenly spaced; all by default."
        ),
    ] = None
    validation_fraction: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="F",
            help="Only the pairs that training with this data.validation-fraction on "
            "the same folders holds out.",
        ),
    ] = None
    json: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help="Write means, ranks and every value here."),
    ] = None
    csv: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help="Write one line per pair and method here."),
    ] = None
    sheet: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE.png",
            help="Draw every measured pair and what each method makes of it here.",
        ),
    ] = None

    def run(self) -> None:
        """Measures every pair, then prints and writes the tables."""
        for path in (self.json, self.csv, self.sheet):
            # Found out now, not after measuring.
            if path is not None and not path.parent.is_dir():
                raise FusionProxyError(f"there is no folder {path.parent} for {path}")
        sets = _choose(self.pairs, self.validation_fraction, self.limit)
        methods = {**self._ensembles(sets), **_methods(self.model)}
        measured = _measure(sets, methods)
        summary = {}
        for name, images in measured.items():
            means = mean_metrics(list(images.values()))
            summary[name] = {
                "num_pairs": len(images),
                "means": means,
                "mean_rank": mean_ranks(means),
            }
            print(f"{name}: means over {len(images)} pairs\n{table(means)}\n")
        if self.json is not None:
            _write_json(self.json, {"sets": summary, "images": measured})
        if self.csv is not None:
            _write_csv(self.csv, measured)
        if self.sheet is not None:
            pairs = [pair for chosen in sets.values() for pair in chosen]
            write_image(self.sheet, contact_sheet(pictures(pairs, methods)))

    def _ensembles(self, sets: dict[str, list[PairPaths]]) -> dict[str, Method]:
        """Returns the ensembles by their text; their Gaussian prior is fitted here."""
        if not self.teacher:
            return {}
        # Load JAX, which students and controls do not need.
        from fusionproxy_jax.teachers.ensemble_fuser import (
            fit_prior,
            make_ensemble_fuser,
            parse_ensemble,
        )

        configs = {
            text: parse_ensemble(text, self.teachers_config) for text in self.teacher
        }
        prior = fit_prior(read_pair(pair) for pairs in sets.values() for pair in pairs)
        return {
            text: make_ensemble_fuser(config, prior) for text, config in configs.items()
        }


def _methods(models: tuple[str, ...]) -> dict[str, Method]:
    """Returns every method by name, students first."""
    # Loads ONNX Runtime, which --help does not need.
    from fusionproxy_jax.runtime.fuser import load

    # Pairs are measured in parallel; threads of the network's own would not help.
    students = {Path(model).stem: load(model, threads=1) for model in models}
    if len(students) < len(models) or students.keys() & CONTROLS.keys():
        raise FusionProxyError(
            f"the models {', '.join(models)} have the same name or that of a control "
            f"({', '.join(CONTROLS)}); rename the files"
        )
    return {**students, **CONTROLS}


def _choose(
    folders: tuple[Path, ...], validation_fraction: float | None, limit: int | None
) -> dict[str, list[PairPaths]]:
    """Returns data set -> pairs to measure."""
    if limit is not None and limit < 1:
        raise FusionProxyError(f"--limit is {limit}; it must be at least 1")
    pairs = [pair for folder in folders for pair in find_pairs(folder)]
    if len({pair.id for pair in pairs}) < len(pairs):
        raise FusionProxyError(
            "two of the --pairs folders hold pairs of the same name; give every folder "
            "once and different names"
        )
    if validation_fraction is not None:
        groups = [(pair.id, pair.group) for pair in pairs]
        _, held_out = split_pairs(groups, validation_fraction)
        pairs = [pairs[index] for index in held_out]
        if not pairs:
            raise FusionProxyError(
                f"a validation fraction of {validation_fraction} holds no pair out; "
                "raise it or leave it away"
            )
    sets: dict[str, list[PairPaths]] = {}
    for pair in pairs:
        # "roadscene/FLIR_1" is of the set roadscene, "data/msrs/1" of the set msrs.
        *folder, _ = pair.id.split("/")
        sets.setdefault(folder[min(1, len(folder) - 1)], []).append(pair)
    return {name: _spaced(pairs, limit) for name, pairs in sets.items()}


def _spaced(pairs: list[PairPaths], limit: int | None) -> list[PairPaths]:
    if limit is None or limit >= len(pairs):
        return pairs
    return [pairs[len(pairs) * index // limit] for index in range(limit)]


def _measure(
    sets: dict[str, list[PairPaths]], methods: dict[str, Method]
) -> dict[str, dict[str, Measured]]:
    """Returns data set -> pair id -> metrics of each method."""
    names = [name for name, pairs in sets.items() for _ in pairs]
    pairs = [pair for pairs in sets.values() for pair in pairs]
    measured: dict[str, dict[str, Measured]] = {name: {} for name in sets}
    show_progress = sys.stderr.isatty()
    results = measure_pairs(pairs, methods)
    for name, pair, values in zip(names, pairs, results, strict=True):
        measured[name][pair.id] = values
        if show_progress:
            done = sum(map(len, measured.values()))
            print(f"\r{done}/{len(pairs)} pairs", end="", file=sys.stderr)
    if show_progress:
        print(file=sys.stderr)
    return measured


def _write_json(path: Path, report: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json_format.dumps(report, indent=2) + "\n")


def _write_csv(path: Path, measured: dict[str, dict[str, Measured]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv_format.writer(file, lineterminator="\n")
        writer.writerow(["set", "image", "method", *METRICS])
        for name, images in measured.items():
            for image, methods in images.items():
                for method, values in methods.items():
                    cells = [f"{values[metric]:.5f}" for metric in METRICS]
                    writer.writerow([name, image, method, *cells])
