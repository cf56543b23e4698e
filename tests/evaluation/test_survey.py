import numpy as np
from PIL import Image

from fusionproxy_jax.evaluation.survey import measure_pairs, read_pair
from fusionproxy_jax.runtime.pairing import find_pairs


def write_pairs(root, num_pairs=3, infrared_size=(64, 48), infrared_dtype=np.uint8):
    generator = np.random.default_rng(0)
    for folder in ("visible", "infrared"):
        (root / folder).mkdir(parents=True)
    for index in range(num_pairs):
        visible = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        infrared = np.linspace(0, 200 + index, infrared_size[0] * infrared_size[1])
        infrared = infrared.reshape(infrared_size[::-1]).astype(infrared_dtype)
        Image.fromarray(visible).save(root / "visible" / f"{index}.png")
        Image.fromarray(infrared).save(root / "infrared" / f"{index}.png")
    return find_pairs(root)


def test_eight_bit_images_are_measured_as_stored(tmp_path):
    pairs = write_pairs(tmp_path)
    visible, infrared = read_pair(pairs[1])
    np.testing.assert_array_equal(visible, np.asarray(Image.open(pairs[1].visible)))
    np.testing.assert_array_equal(infrared, np.asarray(Image.open(pairs[1].infrared)))


def test_a_smaller_deeper_infrared_image_is_brought_to_the_visible_one(tmp_path):
    pairs = write_pairs(tmp_path, infrared_size=(32, 24), infrared_dtype=np.uint16)
    visible, infrared = read_pair(pairs[0])
    assert infrared.shape == visible.shape[:2] and infrared.dtype == np.uint8
    # The frame's own range becomes the range of 8 bits.
    assert infrared.min() < 10 and infrared.max() > 245
    assert np.all(np.diff(infrared[:, 5].astype(int)) >= 0)


def test_results_come_in_the_order_of_pairs_and_methods(tmp_path):
    pairs = write_pairs(tmp_path)

    def infrared_only(visible, infrared):
        return infrared

    def flat(visible, infrared):
        return np.zeros_like(visible)

    results = list(measure_pairs(pairs, {"heat": infrared_only, "flat": flat}))
    assert [list(result) for result in results] == [["heat", "flat"]] * 3
    deviations = [
        np.std(np.asarray(Image.open(pair.infrared), dtype=float)) for pair in pairs
    ]
    np.testing.assert_allclose([result["heat"]["SD"] for result in results], deviations)
    assert all(result["flat"]["SD"] == 0 for result in results)
