import numpy as np

from fusionproxy_jax.evaluation.extreme_pairs import extreme_pairs


def test_extreme_pairs_hold_the_ends_of_the_range_and_oppose_each_other():
    pairs = extreme_pairs(16, 24)
    for visible, infrared in pairs.values():
        assert visible.shape == (16, 24, 3) and infrared.shape == (16, 24)
        assert visible.dtype == infrared.dtype == np.uint8
    assert (pairs["white"][0] == 255).all() and (pairs["white"][1] == 255).all()
    assert not pairs["black"][0].any() and not pairs["black"][1].any()
    for name in ("checkerboard", "half and half"):
        visible, infrared = pairs[name]
        np.testing.assert_array_equal(visible[..., 1], 255 - infrared)
        assert visible.mean() == 127.5
    board = pairs["checkerboard"][1]
    assert (board[1:] != board[:-1]).all() and (board[:, 1:] != board[:, :-1]).all()
    assert (np.diff(pairs["half and half"][1].astype(int)) != 0).sum() == 16
    assert len(np.unique(pairs["noise"][0])) > 200
