import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pair_crops import make_pair_loader


def _pair(index, height=70, width=50):
    """A pair whose infrared image is the red channel, so that crops can be compared."""
    rng = np.random.default_rng(index)
    visible = rng.integers(0, 256, (height, width, 3), np.uint8)
    return {
        "id": f"made_up/{index}",
        "visible": visible,
        "infrared": visible[..., 0] / np.float32(255),
    }


PAIRS = [_pair(0), _pair(1), _pair(2, height=20, width=90)]


def _loader(pairs=PAIRS, **options):
    settings = {"batch_size": 4, "crop_px": 32, "flip": True, "seed": 0} | options
    return make_pair_loader(pairs, **settings)


def test_crops_are_batches_of_both_images_in_step():
    loader = _loader()
    for _ in range(4):
        batch = next(loader)
        assert batch["visible"].shape == (4, 32, 32, 3)
        assert batch["infrared"].shape == (4, 32, 32, 1)
        assert batch["visible"].dtype == batch["infrared"].dtype == np.float32
        assert 0 <= batch["visible"].min() and batch["visible"].max() <= 1
        # Same window, same zoom, same mirror: red is still the infrared image.
        np.testing.assert_allclose(
            batch["visible"][..., :1], batch["infrared"], atol=1 / 255
        )


def test_windows_come_in_several_sizes_and_mirrored():
    # A ramp: its slope in the crop says the zoom, its sign the mirror.
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8), (128, 128))
    pair = {"visible": np.stack([ramp] * 3, -1), "infrared": ramp / np.float32(255)}
    loader = _loader([pair], batch_size=32)
    slopes = np.mean(np.diff(next(loader)["infrared"][..., 0], axis=2), axis=(1, 2))
    zooms = 1 / (np.abs(slopes) * 255)
    assert zooms.min() < 0.85 and zooms.max() > 1.15
    assert 1 / 1.4 < zooms.min() and zooms.max() < 1.4
    assert np.any(slopes > 0) and np.any(slopes < 0)


def test_a_seed_decides_and_a_position_resumes():
    first, second = _loader(), _loader()
    for _ in range(3):
        one, two = next(first), next(second)
        np.testing.assert_array_equal(one["visible"], two["visible"])
    state = first.get_state()
    expected = next(first)["visible"]
    resumed = _loader()
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)["visible"], expected)
    assert np.any(next(_loader(seed=1))["visible"] != next(_loader())["visible"])


def test_no_pairs_are_refused():
    with pytest.raises(FusionProxyError, match="there are no training pairs"):
        _loader([])
