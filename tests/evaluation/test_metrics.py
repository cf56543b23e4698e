import csv

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, signal
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.controls import CONTROLS
from fusionproxy_jax.evaluation.metrics import METRICS, measure

PAIRS = (
    ("msrs", "00001D.png"),
    ("msrs", "00005N.png"),
    ("roadscene", "FLIR_00006.jpg"),
    ("roadscene", "FLIR_05759.jpg"),
    ("roadscene", "FLIR_09636.jpg"),
    ("roadscene", "FLIR_video_04215.jpg"),
)


def random_triple(height=61, width=74, seed=0):
    """Smooth grey scenes with flat parts and detail, as uint8."""
    generator = np.random.default_rng(seed)
    visible, infrared = (
        ndimage.gaussian_filter(generator.random((height, width)), 2) * 1500 % 256
        for _ in range(2)
    )
    visible[:20, :30] = 90
    infrared[10:30, 10:40] = 200
    fused = 0.6 * visible + 0.4 * infrared + generator.normal(0, 4, visible.shape)
    return [
        np.clip(np.round(image), 0, 255).astype(np.uint8)
        for image in (fused, visible, infrared)
    ]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(("dataset", "name"), PAIRS)
def test_the_controls_have_the_published_values(real_data, dataset, name, control):
    with (real_data / "reference_metrics.csv").open(newline="") as file:
        rows = {
            row["method"]: row
            for row in csv.DictReader(file)
            if (row["set"], row["image"]) == (dataset, name)
        }
    visible = np.asarray(
        Image.open(real_data / dataset / "visible" / name).convert("RGB")
    )
    infrared = np.asarray(
        Image.open(real_data / dataset / "infrared" / name).convert("L")
    )
    values = measure(CONTROLS[control](visible, infrared), visible, infrared)
    # msx and lp are filtered in float32 there: now and then a pixel rounds otherwise.
    rtol = 2e-5 if control in ("mean", "max") else 2e-4
    for metric in METRICS:
        expected = float(rows[control][metric])
        np.testing.assert_allclose(values[metric], expected, rtol=rtol, atol=1e-5)


def test_entropy_is_that_of_scikit_image():
    triple = random_triple()
    np.testing.assert_allclose(measure(*triple)["EN"], shannon_entropy(triple[0]))


def test_deviation_frequency_and_gradient_are_their_sums():
    triple = random_triple(height=44, width=47)
    image = triple[0].astype(float)
    height, width = image.shape
    horizontal = vertical = gradient = 0.0
    for y in range(height):
        for x in range(width):
            if x > 0:
                horizontal += (image[y, x] - image[y, x - 1]) ** 2
            if y > 0:
                vertical += (image[y, x] - image[y - 1, x]) ** 2
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            top, bottom = max(y - 1, 0), min(y + 1, height - 1)
            gx = (image[y, right] - image[y, left]) / (right - left)
            gy = (image[bottom, x] - image[top, x]) / (bottom - top)
            gradient += np.sqrt((gx**2 + gy**2) / 2)
    horizontal /= height * (width - 1)
    vertical /= (height - 1) * width
    values = measure(*triple)
    np.testing.assert_allclose(values["SF"], np.sqrt(horizontal + vertical))
    np.testing.assert_allclose(values["AG"], gradient / (height * width))
    np.testing.assert_allclose(
        values["SD"], np.sqrt(((image - image.sum() / image.size) ** 2).mean())
    )


def test_mutual_information_is_that_of_the_joint_histograms():
    fused, *sources = random_triple()
    expected = 0.0
    for source in sources:
        joint = np.histogram2d(
            fused.ravel(), source.ravel(), bins=256, range=[[0, 256], [0, 256]]
        )[0]
        joint /= joint.sum()
        product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        seen = joint > 0
        expected += np.sum(joint[seen] * np.log(joint[seen] / product[seen]))
    np.testing.assert_allclose(measure(fused, *sources)["MI"], expected)


def test_scd_correlates_what_each_source_added():
    triple = random_triple()
    fused, visible, infrared = (image.astype(float).ravel() for image in triple)
    expected = (
        np.corrcoef(visible, fused - infrared)[0, 1]
        + np.corrcoef(infrared, fused - visible)[0, 1]
    )
    np.testing.assert_allclose(measure(*triple)["SCD"], expected)


def test_ssim_is_that_of_scikit_image():
    fused, visible, infrared = random_triple()
    expected = structural_similarity(fused, visible) + structural_similarity(
        fused, infrared
    )
    np.testing.assert_allclose(measure(fused, visible, infrared)["SSIM"], expected)


def vif_oracle(source, distorted):
    """Sheikh and Bovik's pixel-domain VIF with two-dimensional convolutions."""
    kept = total = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        offset = np.arange(size) - size // 2
        window = np.exp(
            -(offset[:, None] ** 2 + offset[None] ** 2) / (2 * (size / 5) ** 2)
        )
        window /= window.sum()

        def average(image, window=window):
            return signal.convolve2d(image, window, mode="valid")

        if scale > 1:
            source, distorted = average(source)[::2, ::2], average(distorted)[::2, ::2]
        source_mean, distorted_mean = average(source), average(distorted)
        source_variance = average(source**2) - source_mean**2
        distorted_variance = average(distorted**2) - distorted_mean**2
        covariance = average(source * distorted) - source_mean * distorted_mean
        for s, d, c in zip(
            source_variance.ravel(),
            distorted_variance.ravel(),
            covariance.ravel(),
            strict=True,
        ):
            s, d = max(s, 0.0), max(d, 0.0)
            gain = c / (s + 1e-10)
            noise = d - gain * c
            if s < 1e-10:
                gain, noise, s = 0.0, d, 0.0
            if d < 1e-10:
                gain, noise = 0.0, 0.0
            if gain < 0:
                gain, noise = 0.0, d
            kept += np.log10(1 + gain**2 * s / (max(noise, 1e-10) + 2))
            total += np.log10(1 + s / 2)
    return kept / total


def test_vif_is_that_of_two_dimensional_windows():
    triple = random_triple()
    fused, visible, infrared = (image.astype(float) for image in triple)
    expected = vif_oracle(visible, fused) + vif_oracle(infrared, fused)
    np.testing.assert_allclose(measure(*triple)["VIF"], expected, rtol=1e-9)


def test_qabf_compares_strength_and_orientation_of_edges():
    triple = random_triple(height=43, width=45)

    def edges(image):
        gx = -ndimage.sobel(np.pad(image.astype(float), 2), axis=1)[2:-2, 2:-2]
        gy = ndimage.sobel(np.pad(image.astype(float), 2), axis=0)[2:-2, 2:-2]
        return gx, gy

    fused = edges(triple[0])
    kept = total = 0.0
    for source in map(edges, triple[1:]):
        for position in np.ndindex(triple[0].shape):
            strength, angle = [], []
            for gx, gy in (fused, source):
                gx, gy = gx[position], gy[position]
                strength.append(np.sqrt(gx**2 + gy**2))
                angle.append(np.pi / 2 if gx == 0 else np.arctan(gy / gx))
            ratio = min(strength) / max(strength) if max(strength) > 0 else 0.0
            if strength[0] == strength[1]:
                ratio = strength[0]
            alignment = 1 - abs(angle[0] - angle[1]) / (np.pi / 2)
            quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
            quality *= 0.9879 / (1 + np.exp(-22 * (alignment - 0.8)))
            kept += quality * strength[1]
            total += strength[1]
    np.testing.assert_allclose(measure(*triple)["Qabf"], kept / total)


def test_an_image_fused_with_itself_is_kept_whole():
    image = random_triple()[1]
    values = measure(image, image, image)
    np.testing.assert_allclose(values["SSIM"], 2)
    np.testing.assert_allclose(values["VIF"], 2, rtol=1e-6)
    # Bits against nats.
    np.testing.assert_allclose(values["MI"], 2 * values["EN"] * np.log(2))
    np.testing.assert_allclose(values["SCD"], 0)


def test_flat_images_give_numbers():
    flat = np.full((50, 60), 7, np.uint8)
    values = measure(flat, flat, np.zeros_like(flat))
    assert all(np.isfinite(value) for value in values.values())
    assert values["EN"] == values["VIF"] == values["SCD"] == values["SF"] == 0


def test_colour_is_measured_on_rounded_luma():
    fused, visible, infrared = random_triple()
    generator = np.random.default_rng(1)
    colour = generator.integers(0, 256, (*fused.shape, 3), dtype=np.uint8)
    red, green, blue = np.moveaxis(colour.astype(float), -1, 0)
    luma = np.round(0.299 * red + 0.587 * green + 0.114 * blue).astype(np.uint8)
    assert measure(colour, visible, infrared) == measure(luma, visible, infrared)
    grey = np.repeat(visible[..., None], 3, axis=2)
    assert measure(fused, grey, infrared) == measure(fused, visible, infrared)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((3, 50, 50), np.float32), "fused image to measure is float32"),
        (np.zeros((3, 50, 50, 4), np.uint8), r"uint8 \(50, 50, 4\)"),
        ([np.zeros((50, 50 + i), np.uint8) for i in range(3)], "50x50, 51x50, 52x50"),
        (np.zeros((3, 40, 90), np.uint8), "90x40 px are too small"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(images, sentence):
    with pytest.raises(FusionProxyError, match=sentence):
        measure(*images)


def test_the_smallest_image_can_be_measured():
    values = measure(*random_triple(height=41, width=41))
    assert tuple(values) == METRICS
    assert all(np.isfinite(value) for value in values.values())
