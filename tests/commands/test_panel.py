from types import SimpleNamespace

import huggingface_hub
import jax.numpy as jnp
import pytest
from panel.tiny_panel import add_weights, tensors, tiny_model, write

from fusionproxy_jax import cli
from fusionproxy_jax.commands import panel_table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel import onnx_backbone, registry
from fusionproxy_jax.panel.backbone import Backbone

DETECTORS = ["onnx:models/first.onnx#7", "onnx:models/second.onnx#8"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An empty hub cache, no detectors, and tiny ports `one` and `two` (`paper`)."""
    models = {name: tiny_model(name) for name in ("one", "two", "three")}
    for module in (registry, panel_table):
        monkeypatch.setattr(module, "FOUNDATION_MODELS", models)
    monkeypatch.setattr(registry, "PAPER", ("one", "two"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def load(spec):
        if "broken" in spec:
            raise FusionProxyError("broken.onnx is no ONNX file")
        name = registry.parse_entry(spec).name
        params = {"w": jnp.zeros((3, 5))}
        return Backbone(name, "0" * 16, params, lambda p, x: x[:, ::8, ::8] @ p["w"])

    def detectors(found):
        for module in (onnx_backbone, registry, panel_table):
            monkeypatch.setattr(module, "find_compact", lambda: found)

    monkeypatch.setattr(panel_table, "load_onnx_backbone", load)
    detectors(None)
    return SimpleNamespace(
        models=models,
        detectors=detectors,
        add=lambda *names: [add_weights(tmp_path / "hub", models[n]) for n in names],
    )


def _lines(capsys):
    """Printed lines by their first word."""
    printed = capsys.readouterr().out.splitlines()
    return {line.split()[0].rstrip(":"): line for line in printed if line}


def test_the_table_has_every_known_backbone_and_what_auto_would_take(machine, capsys):
    (path,) = machine.add("one")
    assert cli.run(["panel", "check"]) == 0
    lines = _lines(capsys)
    one, two = lines["one"].split(), lines["two"].split()
    assert one[1:3] == ["present", "CC0-1.0"] and one[-1] == str(path)
    assert two[1:3] == ["missing", "CC0-1.0"] and two[-1] == "laboratory/two-net"
    # Both convolutions, on grids of 24x12 and 12x6, and 1 KB of features.
    num_parameters = 3 * 4 * 9 + 4 + 4 * 4 * 9 + 4
    for cells in (one, two):
        assert cells[3:5] == [f"{num_parameters / 1e6:.2f}", "M"]
        assert cells[7:9] == ["12x6x4", "0.00"]
    assert "missing" in lines["nanodet_m_416.onnx"]
    assert "missing" in lines["picodet_s_320.onnx"]
    assert lines["auto"] == "auto takes none: alignment is off"


def test_detectors_that_are_here_are_described(machine, capsys):
    machine.detectors(DETECTORS)
    assert cli.run(["panel", "check", "compact"]) == 0
    lines = _lines(capsys)
    cells = lines["first#7"].split()
    assert cells[1:3] == ["present", "Apache-2.0"]
    assert cells[-3:] == ["32x32x5", "0.01", DETECTORS[0]]
    assert lines["auto"] == "auto takes first#7, second#8"
    assert cli.run(["panel", "check", "auto", "compact"]) == 0
    # The header, one line a detector, and what auto takes.
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_what_was_asked_for_and_is_missing_gives_one_and_the_command(machine, capsys):
    machine.add("one", "three")
    assert cli.run(["panel", "check", "one", "three"]) == 0
    assert _lines(capsys).keys() == {"backbone", "one", "three", "auto"}
    assert cli.run(["panel", "check", "paper", "compact"]) == 1
    printed = capsys.readouterr().out
    assert "to fetch: fusionproxy panel fetch two compact\n" in printed


def test_weights_that_do_not_fit_are_unusable_and_said_why(machine, tmp_path, capsys):
    (path,) = machine.add("one")
    path.resolve().write_bytes(path.read_bytes()[:-4])
    other = write(tmp_path / "other.safetensors", tensors(width=5))
    assert cli.run(["panel", "check", "one", f"two={other}", "three=no.pth"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("unusable") == 3
    assert f"one: {path} is truncated" in printed
    assert f"two: {other} does not fit this network" in printed
    assert "three: there are no weights at no.pth" in printed
    # Files of the user's own are not fetched.
    assert "to fetch: fusionproxy panel fetch one\n" in printed


def test_networks_of_the_users_own_can_be_checked(machine, capsys):
    assert cli.run(["panel", "check", "onnx:models/mine.onnx#4"]) == 0
    assert "mine#4" in _lines(capsys)
    assert cli.run(["panel", "check", "onnx:broken.onnx#4"]) == 1
    assert "broken#4: broken.onnx is no ONNX file" in capsys.readouterr().out


def test_an_unknown_backbone_is_one_sentence(machine):
    with pytest.raises(FusionProxyError, match="no backbone 'four'"):
        cli.run(["panel", "check", "one", "four"])
    for names in (["four"], ["auto"], ["onnx:a#b"], ["one=a.pth"]):
        with pytest.raises(
            FusionProxyError, match=f"cannot fetch {names[0]}; give one"
        ):
            cli.run(["panel", "fetch", "one", *names])
    with pytest.raises(FusionProxyError, match="cannot fetch nothing; give one, two"):
        cli.run(["panel", "fetch"])


def test_fetch_downloads_what_is_not_here_and_says_where_all_is(
    machine, monkeypatch, capsys
):
    (one,) = machine.add("one")
    fetched = []

    def download(repository, **options):
        fetched.append(repository)
        machine.add(repository.removeprefix("laboratory/").removesuffix("-net"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert cli.run(["panel", "fetch", "paper", "one"]) == 0
    assert fetched == ["laboratory/two-net"]
    printed = capsys.readouterr().out
    assert f"one (CC0-1.0): {one}\n" in printed
    assert "two (CC0-1.0): " in printed and printed.count("\n") == 2
    assert cli.run(["panel", "check", "auto"]) == 0
    assert "auto takes one, two" in capsys.readouterr().out


def test_fetching_offline_is_one_sentence_and_exit_code_two(
    machine, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["fusionproxy", "panel", "fetch", "two"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error == (
        "fusionproxy: could not fetch laboratory/two-net: HF_HUB_OFFLINE forbids the "
        "network; unset it and try again\n"
    )


def test_fetching_compact_says_where_the_detectors_come_from(machine, capsys):
    assert cli.run(["panel", "fetch", "compact"]) == 1
    printed = capsys.readouterr().out
    for part in (
        "nanodet_m_416.onnx",
        "https://github.com/RangiLyu/nanodet",
        "picodet_s_320.onnx",
        "https://github.com/PaddlePaddle/PaddleDetection",
        "Apache-2.0",
        "FUSIONPROXY_MODELS",
    ):
        assert part in printed
    machine.detectors(DETECTORS)
    assert cli.run(["panel", "fetch", "compact"]) == 0
    assert DETECTORS[1] in capsys.readouterr().out
