import functools

import numpy as np
import onnx
import pytest
from tiny_deployed import (
    CONVOLUTIONAL,
    camera_pairs,
    float32_models,
    params,
    properties,
)

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.onnx_export import deployment
from fusionproxy_jax.onnx_export.deployment import (
    Deployment,
    deployed_models,
    export_forms,
    file_name,
)
from fusionproxy_jax.runtime.fuser import load

EVERYTHING = {
    "precisions": ("float32", "float16", "int8"),
    "sizes": ((61, 83),),
}


@functools.cache
def _deployed():
    wanted = Deployment(calibration=camera_pairs(), **EVERYTHING)
    return deployed_models(float32_models(), "light", wanted)


def test_names_tell_precision_interface_and_size():
    assert file_name("base", camera=False) == "base.onnx"
    assert file_name("base", "float16", camera=True) == "base_float16_camera.onnx"
    assert (
        file_name("base", "int8", camera=True, size=(480, 640))
        == "base_int8_camera_480x640.onnx"
    )
    assert set(_deployed()[0]) == {
        f"light{precision}{camera}{size}.onnx"
        for precision in ("", "_float16", "_int8")
        for camera in ("", "_camera")
        for size in ("", "_61x83")
    }


def test_metadata_tell_precision_and_size_and_keep_the_rest():
    models, _ = _deployed()
    origin = properties(float32_models()["light_camera.onnx"])
    for precision in ("float32", "float16", "int8"):
        part = "" if precision == "float32" else f"_{precision}"
        told = {"precision": precision}
        free = properties(models[f"light{part}_camera.onnx"])
        assert free == origin | told
        fixed = properties(models[f"light{part}_camera_61x83.onnx"])
        assert fixed == origin | told | {"size": "61x83"}


def test_every_form_opens_by_its_path_and_takes_the_images_as_they_are(tmp_path):
    models, found = _deployed()
    _, (visible, infrared) = camera_pairs(1, 61, 83)[0]
    wanted = None
    for file, model in models.items():
        path = tmp_path / file
        path.write_bytes(model.SerializeToString())
        fused = load(path)(visible, infrared)
        assert fused.shape == visible.shape and fused.dtype == np.uint8
        wanted = fused if wanted is None else wanted
        error = np.abs(fused.astype(int) - wanted)
        assert error.mean() < (3 if "int8" in file else 0.1), file
    assert "PSNR" in found["light_int8.onnx"]
    assert found["light_61x83.onnx"] == "no difference"


@pytest.fixture
def compared(monkeypatch):
    """Takes the comparison with Flax, which other tests make, as done."""
    differences = dict.fromkeys(float32_models(), 1e-6)
    monkeypatch.setattr(
        deployment, "checked_models", lambda *_: (float32_models(), differences)
    )


@pytest.mark.usefixtures("compared")
def test_everything_wanted_is_written_beside_the_weights(tmp_path):
    wanted = Deployment(precisions=("float32", "float16"), sizes=((48, 64),))
    found = export_forms(params(), CONVOLUTIONAL, tmp_path, "light", {}, wanted)
    assert {path.name for path in tmp_path.iterdir()} == {
        *found,
        "light.safetensors",
    }
    assert len(found) == 8
    assert found["light.onnx"] == "largest difference from Flax 1.0e-06"
    for file in found:
        onnx.checker.check_model(onnx.load(tmp_path / file), full_check=True)


@pytest.mark.usefixtures("compared")
def test_a_form_that_fails_its_check_writes_nothing(tmp_path):
    wanted = Deployment(
        precisions=("float32", "int8"), calibration=camera_pairs(), min_psnr_db=90
    )
    with pytest.raises(FusionProxyError, match=r"light_int8.onnx is \d+.* 90 dB are"):
        export_forms(params(), CONVOLUTIONAL, tmp_path, "light", {}, wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precisions": ()}, "no precision"),
        ({"precisions": ("float32", "int8")}, "int8 needs pairs .* --calibration DIR"),
        ({"calibration": [("a", None)]}, "--calibration is for int8 only"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_one_sentence(settings, words):
    with pytest.raises(FusionProxyError, match=words):
        Deployment(**settings)
