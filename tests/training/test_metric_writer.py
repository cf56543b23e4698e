import json

from fusionproxy_jax.training.metric_writer import MetricWriter, truncate_metrics


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


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    truncate_metrics(path, 10)
    assert steps_in(path) == [1, 2]


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path):
    writer = MetricWriter(tmp_path, after_step=0)
    writer.write(5, {"loss": 0.25})
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    writer.close()
    assert row == {"step": 5, "loss": 0.25}
