import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from fusionproxy_jax.checkpoints.weights import (
    check_parameters,
    load_weights,
    save_weights,
)
from fusionproxy_jax.errors import FusionProxyError


def _params():
    generator = np.random.default_rng(0)
    return {
        "encoder": {
            "stem": {
                "kernel": generator.random((2, 3), np.float32),
                "bias": generator.random(3, np.float32),
            }
        },
        "decoder": {"kernel": generator.random((4, 1), np.float32)},
    }


def _saved(tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, _params(), {"name": "a", "student": {"widths": [1, 2]}})
    return path


def test_parameters_and_metadata_come_back(tmp_path):
    params, metadata = load_weights(_saved(tmp_path))
    assert metadata == {"name": "a", "student": {"widths": [1, 2]}}
    assert params.keys() == {"encoder", "decoder"}
    np.testing.assert_equal(params, _params())


def test_arrays_in_another_memory_order_come_back(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_weights(tmp_path / "t.safetensors", {"kernel": kernel}, {})
    params, _ = load_weights(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(params["kernel"], kernel)


def test_files_carry_flat_names_any_reader_understands(tmp_path):
    from safetensors.numpy import load_file

    assert set(load_file(_saved(tmp_path))) == {
        "encoder/stem/kernel",
        "encoder/stem/bias",
        "decoder/kernel",
    }


def test_bfloat16_comes_back_in_a_new_process(tmp_path):
    path = tmp_path / "b.safetensors"
    kernel = np.arange(3).astype(ml_dtypes.bfloat16)
    save_weights(path, {"kernel": kernel}, {})
    code = (
        "import pathlib; from fusionproxy_jax.checkpoints.weights import load_weights; "
        f"print(load_weights(pathlib.Path({str(path)!r}))[0]['kernel'].dtype)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "bfloat16"


def test_damaged_metadata_is_one_sentence(tmp_path):
    path = _saved(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'widths\\": [', b'widths\\": (', 1))
    with pytest.raises(FusionProxyError, match="damaged"):
        load_weights(path)


def _missing(path):
    path.unlink()


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-5])


def _empty(path):
    path.write_bytes(b"")


def _another_format(path):
    path.write_text(json.dumps({"hello": 1}) * 50)


def _another_program(path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2, np.float32)}, path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, "no weights file"),
        (_truncated, "damaged"),
        (_empty, "damaged"),
        (_another_format, "damaged"),
        (_another_program, "another program"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path, spoil, words):
    path = _saved(tmp_path)
    spoil(path)
    with pytest.raises(FusionProxyError, match=words) as caught:
        load_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="could not write"):
        save_weights(tmp_path / "none" / "a.safetensors", _params(), {})


def test_fitting_parameters_are_accepted():
    check_parameters(_params(), _params(), source="a")


def test_parameters_fit_one_to_one_or_are_refused_by_name():
    lacking, extra, reshaped = _params(), _params(), _params()
    del lacking["encoder"]["stem"]["bias"]
    extra["encoder"]["head"] = {"kernel": np.zeros(1)}
    reshaped["decoder"]["kernel"] = np.zeros((1, 4))
    for params, name in [
        (lacking, "lacks encoder/stem/bias"),
        (extra, "unknown encoder/head/kernel"),
        (reshaped, r"decoder/kernel \(\(1, 4\) for \(4, 1\)\)"),
    ]:
        with pytest.raises(FusionProxyError, match=name):
            check_parameters(params, _params(), source="a")
