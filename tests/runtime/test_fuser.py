import numpy as np
import pytest
from runtime.tiny_onnx import write_classifier, write_student

import fusionproxy_jax
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime import fuser
from fusionproxy_jax.runtime.fuser import load
from fusionproxy_jax.runtime.images import read_infrared, read_visible
from fusionproxy_jax.runtime.thermal import normalize

RNG = np.random.default_rng(0)
VISIBLE = RNG.integers(0, 256, (37, 51, 3), dtype=np.uint8)
INFRARED = RNG.integers(0, 256, (37, 51), dtype=np.uint8)
COUNTS = RNG.integers(7000, 7400, (37, 51)).astype(np.uint16)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A weights folder with both forms of a student called base."""
    write_student(tmp_path / "base.onnx", form="float")
    write_student(tmp_path / "base_camera.onnx", form="camera")
    monkeypatch.setattr(fuser, "WEIGHTS", tmp_path)
    return tmp_path


@pytest.fixture
def fuse(weights):
    return load("base", threads=1)


def _mean(visible, infrared):
    """What the tiny students compute, on the scale of `visible`."""
    return 0.5 * visible.astype(float) + 0.5 * infrared.astype(float)[..., None]


def test_eight_bit_pairs_are_fused_in_eight_bits(fuse):
    fused = fuse(VISIBLE, INFRARED)
    assert fused.dtype == np.uint8
    np.testing.assert_array_equal(fused, np.rint(_mean(VISIBLE, INFRARED)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("infrared", [INFRARED, COUNTS], ids=["8 bit", "raw"])
def test_the_result_has_the_size_and_dtype_of_the_visible_image(fuse, dtype, infrared):
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    visible = (VISIBLE / 255 * white).astype(dtype)
    fused = fuse(visible, infrared)
    assert fused.dtype == dtype
    assert fused.shape == visible.shape
    unit = normalize(COUNTS) if infrared is COUNTS else INFRARED / 255
    expected = _mean(visible / white, unit)
    np.testing.assert_allclose(fused / white, expected, atol=0.51 / 255)


def test_sixteen_bit_results_use_sixteen_bits(fuse):
    visible = RNG.integers(0, 65536, (37, 51, 3), dtype=np.uint16)
    expected = _mean(visible / 65535, INFRARED / 255) * 65535
    np.testing.assert_allclose(fuse(visible, INFRARED), expected, atol=0.6)


def test_bgr_in_gives_bgr_out(weights):
    fuse_bgr, fuse_rgb = load("base", order="bgr"), load("base")
    for infrared in (INFRARED, COUNTS):
        fused = fuse_bgr(VISIBLE[..., ::-1], infrared)
        np.testing.assert_array_equal(fused[..., ::-1], fuse_rgb(VISIBLE, infrared))
        assert fused.flags.c_contiguous


def test_the_network_sees_rgb_whatever_the_order(weights, monkeypatch):
    seen = []
    monkeypatch.setattr(
        fuser.OnnxStudent, "run", lambda self, visible, infrared: seen.append(visible)
    )
    with pytest.raises(TypeError):
        load("base", order="bgr")(VISIBLE[..., ::-1], INFRARED)
    np.testing.assert_array_equal(seen[0][0], VISIBLE)


def test_without_infrared_the_visible_image_comes_back_unchanged(fuse):
    fused = fuse(VISIBLE, None)
    np.testing.assert_array_equal(fused, VISIBLE)
    assert not np.shares_memory(fused, VISIBLE)
    grey = fuse(INFRARED, None)
    np.testing.assert_array_equal(grey, np.repeat(INFRARED[..., None], 3, axis=2))


def test_a_grey_visible_image_is_fused_as_colour(fuse):
    fused = fuse(INFRARED, INFRARED)
    np.testing.assert_array_equal(fused, np.repeat(INFRARED[..., None], 3, axis=2))


@pytest.mark.parametrize("shape", [(74, 102), (18, 25), (39, 51)])
def test_infrared_of_another_size_is_laid_over_the_visible_image(fuse, shape):
    rows = np.linspace(0, 200, shape[0])[:, None]
    ramp = np.broadcast_to(rows, shape).astype(np.uint8)
    fused = fuse(np.zeros_like(VISIBLE), ramp)
    assert fused.shape == VISIBLE.shape
    expected = np.linspace(0, 100, 37)[:, None, None]
    np.testing.assert_allclose(fused, np.broadcast_to(expected, fused.shape), atol=5)


def test_raw_frames_are_normalised_before_they_are_resized(fuse):
    counts = np.full((20, 28), 7000, np.uint16)
    counts[:10] = 7200
    counts[3, 3] = 65535
    visible = np.zeros((40, 56, 3), np.uint8)
    fused = fuse(visible, counts)
    assert fused[:16].min() == 128
    assert fused[24:].max() == 0


def test_another_field_of_view_is_refused(fuse):
    with pytest.raises(FusionProxyError, match="51x37 px .* 37x51 px, .* crop both"):
        fuse(VISIBLE, INFRARED.T)


def test_arrays_that_are_not_contiguous_are_fused(fuse):
    fused = fuse(VISIBLE[:, ::-1], INFRARED[:, ::-1])
    np.testing.assert_array_equal(fused[:, ::-1], fuse(VISIBLE, INFRARED))


@pytest.mark.parametrize("form", ["float", "camera"])
def test_a_file_of_either_form_is_recognised(tmp_path, form):
    fuse = load(write_student(tmp_path / "mine.onnx", form=form))
    fused = fuse(VISIBLE, INFRARED)
    np.testing.assert_allclose(fused, _mean(VISIBLE, INFRARED), atol=0.51)
    raw = fuse(VISIBLE, COUNTS)
    np.testing.assert_allclose(raw, _mean(VISIBLE, 255 * normalize(COUNTS)), atol=0.8)


def test_the_float_form_is_opened_only_when_needed(weights):
    (weights / "base.onnx").write_bytes(b"damaged")
    fuse = load("base")
    fuse(VISIBLE, INFRARED)
    with pytest.raises(FusionProxyError, match="base.onnx is damaged"):
        fuse(VISIBLE, COUNTS)


def test_the_eight_bit_file_alone_refuses_other_visible_images(tmp_path):
    fuse = load(write_student(tmp_path / "mine_camera.onnx", form="camera"))
    with pytest.raises(FusionProxyError, match="takes 8-bit images .* uint16"):
        fuse(VISIBLE.astype(np.uint16), INFRARED)


def test_a_file_of_fixed_size_says_which(tmp_path):
    fuse = load(write_student(tmp_path / "fixed.onnx", size=(37, 51)))
    assert fuse(VISIBLE, INFRARED).shape == VISIBLE.shape
    with pytest.raises(FusionProxyError, match="takes 51x37 px and .* 50x37 px"):
        fuse(VISIBLE[:, :50], INFRARED[:, :50])


def test_models_that_cannot_be_used_are_refused(weights):
    (weights / "text.onnx").write_text("not a model")
    write_classifier(weights / "classifier.onnx")
    for model, sentence in {
        "huge": "no model 'huge'; give base or .* path of an .onnx file",
        weights / "nowhere.onnx": "there is no model file",
        weights / "text.onnx": "is damaged or not an ONNX model",
        weights / "classifier.onnx": "not a fusion model: it takes image and gives",
    }.items():
        with pytest.raises(FusionProxyError, match=sentence):
            load(model)


def test_knobs_outside_their_range_are_refused(weights):
    with pytest.raises(FusionProxyError, match="order is 'grb'"):
        load("base", order="grb")
    with pytest.raises(FusionProxyError, match="threads is 0"):
        load("base", threads=0)


def test_load_is_a_name_of_the_package():
    assert fusionproxy_jax.load is load


def test_real_images_of_unequal_size_fall_on_each_other(fuse, real_data):
    folder = real_data / "roadscene"
    for path in sorted((folder / "visible_highres").iterdir()):
        visible = read_visible(path)
        infrared = read_infrared(folder / "infrared" / path.name)
        fused = fuse(visible, infrared)
        assert fused.shape == visible.shape
        # Back at the infrared's size the weaker half of the mean is still recognisable.
        height, width = infrared.shape
        rows = np.arange(height) * visible.shape[0] // height
        columns = np.arange(width) * visible.shape[1] // width
        share = fused[rows][:, columns].astype(float) - 0.5 * visible[rows][:, columns]
        correlation = np.corrcoef(share.mean(axis=2).ravel(), infrared.ravel())[0, 1]
        assert correlation > 0.95
