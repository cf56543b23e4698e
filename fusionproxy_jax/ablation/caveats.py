"""What a reader must know beside the table: setup, and where it is not the paper's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionproxy_jax.ablation.record import Record
from fusionproxy_jax.ablation.results import NOT_COMPUTED, Result

_PAPER_PANEL = {"vgg16", "dinov2", "clip", "sam"}
_PAPER_EPOCHS = 160


def caveats(
    record: Record, results: Sequence[Result], speeds: Mapping[str, Any]
) -> list[str]:
    """Returns sentences on panel, data, steps, scores, speed and deviations."""
    return [
        *_panel(record, results),
        *_training(record, results),
        *_ensembles(record, results),
        *_scores(results),
        *_speed(speeds),
        *_deviations(record.base),
    ]


def _panel(record: Record, results: Sequence[Result]) -> Iterator[str]:
    names = record.panel
    if not names:
        yield "No panel: nothing is aligned, rows that vary the alignment are empty."
        return
    told = f"The panel is {', '.join(names)}"
    if set(names) == _PAPER_PANEL:
        yield f"{told}, as in the paper."
    else:
        yield f"{told}; the paper's is VGG-16, DINOv2, CLIP and SAM."
    if "vgg16" not in names:
        yield (
            f"Row d has {names[0]} alone in place of the paper's VGG-16, which the "
            "panel has not."
        )
    if len(names) == 1:
        yield "With one backbone there is nothing to route: rows d to f are like h."


def _training(record: Record, results: Sequence[Result]) -> Iterator[str]:
    base = record.base
    steps, batch = base["num_steps"], base["data"]["batch_size"]
    sources = ", ".join(Path(source).name for source in base["data"]["sources"])
    caches = {cache["num_tiles"]: cache for cache in record.caches.values()}
    for num_tiles, cache in caches.items():
        yield (
            f"Trained on {num_tiles} tiles of {cache['tile_px']} px from "
            f"{cache['num_pairs']} pairs of {sources}, {steps} steps of {batch}: "
            f"{steps * batch / num_tiles:.1f} times over every tile. The paper trains "
            f"on MSRS at 256 px, {_PAPER_EPOCHS} times with batches of 8."
        )
    devices = sorted({one.device for one in results if one.device is not None})
    if devices:
        yield f"Trained on {', '.join(devices)}."
    yield (
        f"One run a row, seed {base['seed']}: differences smaller than those between "
        "seeds say nothing."
    )
    alike: dict[str, list[str]] = {}
    for one in results:
        if one.cache is not None:
            alike.setdefault(one.same_as or one.row, []).append(one.row)
    same = [" = ".join(rows) for rows in alike.values() if len(rows) > 1]
    if same:
        yield f"Rows of equal settings are one run: {'; '.join(same)}."


def _ensembles(record: Record, results: Sequence[Result]) -> Iterator[str]:
    weights = {
        name: record.base["teacher"][name]["weights"]
        for name in record.base["teacher"]["teachers"]
        if name in ("ddfm", "mask_difuser")
    }
    if ours := [name for name, text in weights.items() if text == "compact"]:
        yield (
            f"The teachers {' and '.join(ours)} have the compact networks of this "
            "package, not the published weights."
        )
    yield (
        "All rows take their samples from one drawing, rounded to 8 bits; smaller "
        "ensembles are the first samples of larger ones."
    )
    for name, cache in record.caches.items():
        rows = [one.row for one in results if one.cache == name and one.run is not None]
        if not rows:
            continue
        who = f"row{'s' * (len(rows) > 1)} {', '.join(rows)}"
        if len(cache["teachers"]) * cache["num_samples"] == 1:
            yield (
                f"One sample has no variance: pixel weights and routing of {who} are "
                "uniform."
            )
        elif cache["failed_gate"]:
            yield (
                f"The ensemble of {who} fails its gate, it does not hold: "
                f"{'; '.join(cache['failed_gate'])}."
            )


def _scores(results: Sequence[Result]) -> Iterator[str]:
    numbers = sorted({one.num_pairs for one in results if one.num_pairs is not None})
    if numbers:
        yield (
            f"Fusion metrics are means over {' or '.join(map(str, numbers))} held-out "
            "pairs at full size, 8 bits, fused with the averaged weights; for all of "
            "them more is better, though SF grows with noise and SSIM with blur."
        )
    yield (
        f"{', '.join(NOT_COMPUTED)} are not computed here: their networks or labelled "
        "data are not at hand. The paper's numbers are of other metrics on other data: "
        "at most the order of rows can be compared with ours."
    )


def _speed(speeds: Mapping[str, Any]) -> Iterator[str]:
    if not speeds:
        return
    height, width = speeds["size"]
    load = speeds.get("load_average")
    yield (
        f"Frames/s: the student as ONNX, float32, {height}x{width}, batch 1, in ONNX "
        f"Runtime on {speeds['processor']} with {speeds['threads']} threads; median, "
        "all students in turns"
        + (f"; {load:.1f} threads were busy before it." if load is not None else ".")
    )
    yield from speeds.get("notes", ())


def _deviations(base: Mapping[str, Any]) -> Iterator[str]:
    """Yields where the default has other numbers than the paper's Sec. 3 and 4.1."""
    paper = {
        "loss.pixel_weight": 1.0,
        "loss.alignment_weight": 0.5,
        "loss.structure_weight": 0.2,
        "loss.epsilon": 1e-3,
        "loss.routing_temperature": 1.0,
        "misalignment.translation_px": 10.0,
        "misalignment.rotation_deg": 2.0,
        "misalignment.probability": 1.0,
        "panel.grid": 64,
        "teacher.num_samples": 4,
        "data.batch_size": 8,
    }
    other = []
    for name, value in paper.items():
        part, _, key = name.partition(".")
        if base[part][key] != value:
            other.append(f"{name} is {base[part][key]!r} (paper: {value!r})")
    if other:
        yield f"Other settings than the paper's in all rows: {'; '.join(other)}."
    yield (
        "The paper names no optimiser: learning rate "
        f"{base['optimizer']['learning_rate']:g}, warm-up "
        f"{base['optimizer']['warmup_steps']} steps and weight average "
        f"{base['optimizer']['ema_decay']:g} are ours, as are widths and depths of all "
        "students."
    )
    start = base.get("start_from") or base.get("encoder_weights")
    if start:
        yield f"All students start from {Path(start).name}, not from random weights."
