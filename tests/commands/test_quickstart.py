import json

import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError


def test_the_whole_chain_runs_in_miniature(tmp_path, capsys):
    out = tmp_path / "quickstart"
    arguments = ["--out", str(out), "--num-pairs", "5", "--num-steps", "60"]
    assert cli.run(["quickstart", *arguments]) == 0
    assert "contact_sheet.png" in capsys.readouterr().out

    report = json.loads((out / "report.json").read_text())
    stages = ["pairs", "teacher", "training", "export", "fusion", "metrics"]
    assert list(report["seconds"]) == stages
    metrics = report["held_out_metrics"]
    assert {"tiny", "small", "mean", "max", "lp"} <= metrics.keys()
    assert metrics["tiny"]["SSIM"] > 0.5
    curve = report["loss_curve"]
    assert curve[-1]["step"] == 60
    assert curve[-1]["loss"] < 0.9 * curve[0]["loss"]
    assert max(report["onnx_largest_difference"].values()) < 1e-4
    assert 0 < report["teacher"]["deviation_where_sources_disagree"] < 0.5

    held_out = [path.name for path in (out / "fused" / "tiny").iterdir()]
    assert held_out == [path.name for path in (out / "fused" / "shipped").iterdir()]
    for name in held_out:
        with Image.open(out / "pairs" / "visible" / name) as picture:
            visible = np.asarray(picture).astype(int)
        with Image.open(out / "fused" / "shipped" / name) as picture:
            shipped = np.asarray(picture).astype(int)
        assert shipped.shape == visible.shape
        assert np.abs(shipped - visible).mean() > 1
    # The same command finds everything done.
    before = (out / "training" / "metrics.jsonl").read_text()
    assert cli.run(["quickstart", *arguments]) == 0
    assert (out / "training" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--num-pairs", "1"], "--num-pairs is 1"),
        (["--num-steps", "3"], "--num-steps is 3"),
    ],
)
def test_a_chain_too_short_to_run_is_refused(tmp_path, arguments, sentence):
    with pytest.raises(FusionProxyError, match=sentence):
        cli.run(["quickstart", "--out", str(tmp_path / "q"), *arguments])
    assert not (tmp_path / "q").exists()
