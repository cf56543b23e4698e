import io
import math

import numpy as np
from event_files import images, scalars
from PIL import Image

from fusionproxy_jax.training.logs.tensorboard import TensorBoard


def test_scalars_and_pictures_are_there_at_their_steps(tmp_path):
    board = TensorBoard(tmp_path, after_step=0)
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    board.write(4, {"loss": 0.25, "loss/part": 2.0})
    board.write_image("pictures", 4, picture)
    board.close()
    folder = tmp_path / "tensorboard"
    assert scalars(folder) == [(4, "loss", 0.25), (4, "loss/part", 2.0)]
    ((step, name, encoded),) = images(folder)
    assert (step, name) == (4, "pictures")
    with Image.open(io.BytesIO(encoded)) as stored:
        np.testing.assert_array_equal(np.asarray(stored), picture)


def test_values_that_are_not_finite_are_left_out_without_a_word(tmp_path, capfd):
    board = TensorBoard(tmp_path, after_step=0)
    board.write(1, {"loss": math.nan, "rate": 1.0, "norm": math.inf})
    board.close()
    assert scalars(tmp_path / "tensorboard") == [(1, "rate", 1.0)]
    assert capfd.readouterr() == ("", "")
