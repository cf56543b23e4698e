import json
import math
import sys

import numpy as np
import pytest
from event_files import images, scalars
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.metric_writer import MetricWriter


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_resumed_run_writes_every_step_once(tmp_path):
    first = MetricWriter(tmp_path, after_step=0)
    for step in (1, 2, 3, 4):
        first.write(step, {"loss": 1.0 / step})
    first.close()
    second = MetricWriter(tmp_path, after_step=2)
    second.write(3, {"loss": 0.5})
    second.close()
    assert steps_in(tmp_path / "metrics.jsonl") == [1, 2, 3]


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path):
    writer = MetricWriter(tmp_path, after_step=0)
    writer.write(5, {"loss": np.float32(0.25), "steps": 3})
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    writer.close()
    assert row == {"step": 5, "loss": 0.25, "steps": 3}


def test_rows_and_pictures_go_to_tensorboard_too(tmp_path):
    picture = np.full((20, 30, 3), 200, np.uint8)
    Image.fromarray(picture).save(tmp_path / "drawn.png")
    writer = MetricWriter(tmp_path, after_step=0)
    writer.write(1, {"loss": 0.5, "norm": math.nan})
    writer.write_image("pictures", 1, tmp_path / "drawn.png")
    writer.write_image("routing", 1, picture)
    writer.close()
    folder = tmp_path / "tensorboard"
    assert scalars(folder) == [(1, "loss", 0.5)]
    pictures = images(folder)
    assert [(step, name) for step, name, _ in pictures] == [
        (1, "pictures"),
        (1, "routing"),
    ]
    assert pictures[0][2] == pictures[1][2]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["norm"] is None


def test_a_package_that_is_asked_for_and_missing_leaves_nothing_open(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(FusionProxyError, match="Weights & Biases is asked for"):
        MetricWriter(tmp_path, after_step=0, wandb="fusion")
    # Had the file stayed open, its end would be a warning, and so an error.
    MetricWriter(tmp_path, after_step=0).close()
