"""The students in the package: complete, exact, and better than the plain average."""

import dataclasses
import hashlib
import json
import runpy
from inspect import signature
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.ndimage
from PIL import Image

from fusionproxy_jax import load
from fusionproxy_jax.checkpoints.weights import load_weights
from fusionproxy_jax.commands.student_file import read_student
from fusionproxy_jax.evaluation.controls import CONTROLS
from fusionproxy_jax.evaluation.extreme_pairs import extreme_pairs
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.evaluation.report import mean_metrics
from fusionproxy_jax.evaluation.survey import measure_pairs, read_pair
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.onnx_export.float16_range import largest_stored
from fusionproxy_jax.onnx_export.half_precision import half_precision
from fusionproxy_jax.runtime.fuser import WEIGHTS
from fusionproxy_jax.runtime.pairing import find_pairs
from fusionproxy_jax.teachers.pretrained import load_prior, load_restorer

NAMES = ("nano", "small", "base")
# Quantised forms of two of them.
INT8 = ("nano_int8", "small_int8")
MEGABYTE = 1024**2


def held_out(real_data: Path) -> dict[str, list]:
    """Pairs the release never trained on, by data set, and the MSRS night pair."""
    names = ("roadscene", "msrs", "m3fd", "m3svd")
    pairs = [pair for name in names for pair in find_pairs(real_data / name)]
    _, validation = split_pairs([(pair.id, pair.group) for pair in pairs], 0.1)
    sets: dict[str, list] = {}
    for index in validation:
        sets.setdefault(pairs[index].id.split("/")[0], []).append(pairs[index])
    return sets


@pytest.mark.parametrize("name", NAMES)
def test_a_released_student_has_all_its_files_within_size(name):
    for suffix in (".safetensors", ".onnx", "_camera.onnx"):
        assert (WEIGHTS / f"{name}{suffix}").is_file()
    for path in WEIGHTS.glob(f"{name}*.*"):
        assert 0 < path.stat().st_size < 12 * MEGABYTE
    # All students; the compact teachers have a bound of their own below.
    every = [path for path in WEIGHTS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in every) < 40 * MEGABYTE
    card = (WEIGHTS / f"{name}.md").read_text()
    for section in ("Data", "Recipe", "Metrics", "Limits", "Licence"):
        assert f"## {section}" in card


@pytest.mark.parametrize(
    ("name", "load_network"),
    [("ddfm", load_prior), ("mask_difuser", load_restorer)],
)
def test_a_released_teacher_has_a_card_and_holds_what_it_says(name, load_network):
    path = WEIGHTS / "teachers" / f"{name}_compact.safetensors"
    assert path.stat().st_size < 12 * MEGABYTE
    network, _ = load_network("compact")
    card = path.with_suffix(".md").read_text()
    for section in ("Data", "Recipe", "Measured", "What it is not", "Licence"):
        assert f"## {section}" in card
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    count = sum(leaf.size for leaf in jax.tree.leaves(network.params))
    assert f"{count:,} parameters" in card
    _, told = load_weights(path)
    sources = told["training"]["config"]["data"]["sources"]
    assert sources and not any("/" in source for source in sources)
    assert "/" not in (told["training"]["config"]["start_from"] or "")


@pytest.mark.parametrize("name", NAMES)
def test_no_released_file_names_a_path_of_the_machine_that_made_it(name):
    _, _, training = read_student(WEIGHTS / f"{name}.safetensors")
    sources = training["config"]["data"]["sources"]
    assert sources and not any("/" in source for source in sources)
    for path in WEIGHTS.glob(f"{name}*.onnx"):
        session = onnxruntime.InferenceSession(str(path))
        told = session.get_modelmeta().custom_metadata_map
        assert json.loads(told["training"]) == training


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_checksum_of_every_file(name):
    card = (WEIGHTS / f"{name}.md").read_text()
    files = [path for path in WEIGHTS.glob(f"{name}*") if path.suffix != ".md"]
    assert len(files) >= 3
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card, path.name


@pytest.mark.parametrize(
    ("name", "experiment", "start_from"),
    [
        ("nano", "students/distilled.py", None),
        ("small", "students/distilled.py", None),
        ("base", "second_light.py", "base"),
    ],
)
def test_a_student_was_trained_as_its_experiment_says(
    monkeypatch, name, experiment, start_from
):
    monkeypatch.setenv("FUSIONPROXY_DATA", "anywhere")
    path = Path(__file__).parents[1] / "experiments" / experiment
    get_config = runpy.run_path(str(path))["get_config"]
    config = get_config(name) if signature(get_config).parameters else get_config()
    _, _, training = read_student(WEIGHTS / f"{name}.safetensors")
    sources = tuple(Path(source).name for source in config.data.sources)
    data = dataclasses.replace(config.data, sources=sources)
    config = dataclasses.replace(config, data=data, start_from=start_from)
    assert training["config"] == _as_stored(config, training["config"])
    assert training["step"] == config.num_steps


def _as_stored(config, stored):
    """Returns a configuration as JSON without what a release did not know yet.

    Settings that came later must have their default, which is what there was before.
    """
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in stored:
            assert value == getattr(type(config)(), field.name), field.name
        elif dataclasses.is_dataclass(value):
            fields[field.name] = _as_stored(value, stored[field.name])
        else:
            fields[field.name] = json.loads(json.dumps(value))
    return fields


@pytest.mark.parametrize("name", NAMES)
def test_all_forms_of_a_released_student_are_one_network(name):
    pair = synthetic_pair(1, height=83, width=117)
    config, params, _ = read_student(WEIGHTS / f"{name}.safetensors")
    visible = pair["visible"] / np.float32(255)
    infrared = np.round(255 * pair["infrared"]).astype(np.uint8)
    flax = fuse_any_size(
        build_student(config),
        jax.tree.map(jnp.asarray, params),
        jnp.asarray(visible)[None],
        jnp.asarray(infrared / np.float32(255))[None, ..., None],
    )[0]
    fuse = load(name)
    exact = fuse(visible, infrared)
    np.testing.assert_allclose(exact, flax, atol=1e-4)
    camera = fuse(pair["visible"], infrared).astype(int)
    # Half a level is a matter of rounding.
    np.testing.assert_allclose(camera / 255, exact, atol=0.6 / 255)


@pytest.mark.parametrize("name", [*NAMES, *INT8])
@pytest.mark.parametrize("size", [(16, 16), (16, 4096), (4096, 16), (17, 331)], ids=str)
def test_a_released_student_fuses_any_size(name, size):
    pair = synthetic_pair(1, height=max(size[0], 32), width=max(size[1], 32))
    visible = pair["visible"][: size[0], : size[1]]
    infrared = np.round(255 * pair["infrared"][: size[0], : size[1]]).astype(np.uint8)
    fused = load(name)(visible, infrared)
    assert fused.shape == visible.shape and fused.std() > 0


@pytest.mark.parametrize("name", [name.removesuffix("_int8") for name in INT8])
def test_the_int8_form_is_close_to_float32(real_data, name):
    fuse, exact = load(f"{name}_int8", threads=1), load(name, threads=1)
    errors = []
    for pairs in held_out(real_data).values():
        visible, infrared = read_pair(pairs[0])
        difference = fuse(visible, infrared).astype(float) - exact(visible, infrared)
        errors.append(np.mean(np.square(difference)))
    # The project's bound on what quantisation may cost.
    assert 10 * np.log10(255**2 / np.mean(errors)) > 38


@pytest.mark.parametrize("name", NAMES)
def test_a_released_student_fits_into_float16(name):
    """Checked on values, as a CPU computes float16 files in float32."""
    model = onnx.load(WEIGHTS / f"{name}_camera.onnx")
    half = half_precision(model)
    pairs = extreme_pairs(480, 640).values()
    largest, value = largest_stored(model, half, pairs)
    assert 1.0 < largest < 65504 / 8, value


def test_a_person_of_the_dark_appears_in_the_fused_image():
    pair = synthetic_pair(1, height=240, width=320, scene="night")
    fused = load()(pair["visible"], pair["infrared"])
    person = pair["person_mask"]
    before, after = pair["visible"].mean(-1), fused.mean(-1)
    assert after[person].mean() > before[person].mean() + 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dataset", ["roadscene", "msrs", "m3fd", "m3svd"])
def test_held_out_pairs_are_fused_better_than_by_averaging(real_data, name, dataset):
    pairs = held_out(real_data)[dataset]
    methods = {name: load(name, threads=1), "mean": CONTROLS["mean"]}
    means = mean_metrics(list(measure_pairs(pairs, methods)))
    # SSIM favours the average by construction, MI a copy of either source.
    for metric in ("EN", "SF", "AG", "SD", "SCD", "VIF", "Qabf"):
        assert means[name][metric] > means["mean"][metric], (metric, means)
    assert set(METRICS) == set(means[name])


@pytest.mark.parametrize("name", NAMES)
def test_people_are_brighter_against_their_surroundings(real_data, name):
    fuse = load(name)
    for pair in find_pairs(real_data / "msrs"):
        visible, infrared = read_pair(pair)
        path = real_data / "msrs" / "person_mask" / f"{pair.visible.stem}.png"
        with Image.open(path) as image:
            person = np.asarray(image) > 0
        around = scipy.ndimage.binary_dilation(person, iterations=8) & ~person

        def contrast(image, person=person, around=around):
            luminance = image @ np.array([0.299, 0.587, 0.114])
            return luminance[person].mean() - luminance[around].mean()

        assert contrast(fuse(visible, infrared)) > contrast(visible) + 5, pair.id


@pytest.mark.parametrize("name", NAMES)
def test_colours_of_the_visible_image_are_kept(real_data, name):
    for pairs in held_out(real_data).values():
        visible, infrared = read_pair(pairs[0])
        fused = load(name)(visible, infrared)
        assert fused.shape == visible.shape and fused.dtype == visible.dtype
        chroma = [
            image[..., [0, 2]].astype(float) - image[..., [1]]
            for image in (visible, fused)
        ]
        # Chroma may be scaled down where luminance leaves no room, not turned.
        correlation = np.corrcoef(chroma[0].ravel(), chroma[1].ravel())[0, 1]
        assert correlation > 0.9, (pairs[0].id, correlation)
