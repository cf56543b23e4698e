import dataclasses

import pytest
from tiny_student import TINY

from fusionproxy_jax.commands.bench.depthwise import (
    BOTH_WAYS,
    FORMS,
    FORWARD,
    bench_depthwise,
)


def test_every_form_is_timed_at_every_shape_of_the_students():
    students = {"one": TINY, "deeper": dataclasses.replace(TINY, depths=(1, 3))}
    report, lines = bench_depthwise(
        students, batch_size=2, side_px=32, dtype="bfloat16", num_rounds=1
    )
    assert report["dtype"] == "bfloat16"
    narrow, wide = report["rows"]
    for row, side, channels in ((narrow, 4, 16), (wide, 8, 8)):
        shape = [row[axis] for axis in ("batch", "height", "width", "channels")]
        assert shape == [2, side, side, channels]
        assert (row["kernel_size"], row["stride"]) == (7, 1)
        # On a CPU.
        assert row["default"] == "shifted"
        assert row["milliseconds"].keys() == FORMS.keys()
        for times in row["milliseconds"].values():
            assert times[FORWARD] > 0 and times[BOTH_WAYS] > 0
    # Two encoders, each with one block at 1/4 and one or three at 1/8.
    assert narrow["uses"] == {"one": 2, "deeper": 6}
    assert wide["uses"] == {"one": 2, "deeper": 2}
    for name, total in report["step_milliseconds"].items():
        for form in FORMS:
            assert total[form] == pytest.approx(
                sum(
                    row["uses"][name] * row["milliseconds"][form][BOTH_WAYS]
                    for row in (narrow, wide)
                )
            )
    assert len(lines) == 2 + 2 + 2 and "deeper: all of them" in lines[-1]
