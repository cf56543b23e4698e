import json
import subprocess
import sys

import pytest

from fusionproxy_jax import __version__, cli
from fusionproxy_jax.config import Config, config_hash
from fusionproxy_jax.errors import FusionProxyError


def exit_of(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of the `fusionproxy` command."""
    monkeypatch.setattr(sys, "argv", ["fusionproxy", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, *capsys.readouterr()


def test_help_names_every_command_and_version_the_version(monkeypatch, capsys):
    code, printed, _ = exit_of(monkeypatch, capsys, "--help")
    assert code == 0 and all(f"  {name} " in printed for name in cli.COMMANDS)
    code, printed, _ = exit_of(monkeypatch, capsys, "--version")
    assert (code, printed.strip()) == (0, __version__)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name):
    module, class_name, line = cli.COMMANDS[name]
    done = subprocess.run(
        [sys.executable, "-m", "fusionproxy_jax.cli", name, "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and f"fusionproxy {name}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fly"], "no command 'fly'"),
        (["train", "--config"], "--config needs the path"),
        (["train", "--config", "none.py"], "no experiment file at none.py"),
        (["bench", "training", "--data.batch-size", "0"], "data.batch_size is 0"),
        (
            ["bench", "training", "--loss.routing-temperature", "-1"],
            "loss.routing_temperature is -1.0; it must be > 0; take a small one",
        ),
        (
            ["bench", "training", "--loss.routing-temperature", "0"],
            "loss.routing_temperature is 0.0; it must be > 0; take a small one",
        ),
        (
            ["bench", "training", "--optimizer.learning-rate", "nan"],
            "optimizer.learning_rate is nan; it must be a finite number",
        ),
        (
            ["train", "--num-stepz", "3", "--cache", "c", "--workdir", "w"],
            "Unrecognized options: --num-stepz, 3; did you mean --num-steps?",
        ),
        (
            ["train", "--loss.routing-temprature", "3"],
            "fusionproxy train needs --cache, --workdir; see fusionproxy train --help",
        ),
        (
            ["bench", "training", "--num-steps", "many"],
            "invalid literal for int() with base 10: 'many'",
        ),
        (
            ["bench", "training", "--parallel", "mesh"],
            "invalid choice 'mesh' for argument '--parallel'. Expected one of ('pmap', "
            "'jit'); see fusionproxy bench --help",
        ),
        (["describe", "--size"], "Missing value for argument '--size'"),
        (["describe", "base", "small"], "small; see fusionproxy describe --help"),
        (["bench", "flight"], "invalid choice 'flight'"),
        (["bench", "training", "--log-every", "0"], "log_every is 0"),
        (["bench", "training", "--student.stem-width", "0"], "student.stem_width is 0"),
        (["bench", "training", "--optimizer.gradient-clip", "0"], "gradient_clip is 0"),
        (["describe", "none"], "none"),
        (["evaluate", "--pairs", "no/folder"], "no/folder"),
        (["teach", "--cache", "c", "--data.sources", "no/folder"], "no/folder"),
        (["train", "--cache", "no/cache", "--workdir", "w"], "no/cache"),
        (["export", "--workdir", "no/run", "--out", "o"], "no/run"),
        (["export", "--weights", "none.safetensors", "--out", "o"], "none.safetensors"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(
    arguments, sentence, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    code, printed, told = exit_of(monkeypatch, capsys, *arguments)
    assert code == 2 and not printed
    assert told.startswith("fusionproxy: ") and told.count("\n") == 1
    assert sentence in told
    assert list(tmp_path.iterdir()) == []


def test_a_file_gives_defaults_and_flags_override_them(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fusionproxy_jax.config import Config, LossConfig\n"
        "def get_config():\n"
        "    return Config(num_steps=7, loss=LossConfig(structure_weight=0.5))\n"
    )
    seen = []
    monkeypatch.setattr(
        "fusionproxy_jax.commands.train.Train.run", lambda self: seen.append(self)
    )
    arguments = ["train", "--cache", "c", "--workdir", "w", "--config", str(file)]
    cli.run([*arguments, "--loss.pixel-weight", "2"])
    (command,) = seen
    assert command.config.num_steps == 7
    assert command.config.loss.structure_weight == 0.5
    assert command.config.loss.pixel_weight == 2
    with pytest.raises(FusionProxyError, match="defines no get_config"):
        (tmp_path / "empty.py").write_text("")
        cli.run(["train", f"--config={tmp_path / 'empty.py'}"])


def test_a_file_of_several_configurations_takes_the_name_of_one(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fusionproxy_jax.config import Config\n"
        "def get_config(steps='3'):\n"
        "    return Config(num_steps=int(steps))\n"
    )
    seen = []
    monkeypatch.setattr(
        "fusionproxy_jax.commands.train.Train.run", lambda self: seen.append(self)
    )
    for suffix in ("", ":8"):
        cli.run(["train", "--cache", "c", "--workdir", "w", f"--config={file}{suffix}"])
    assert [command.config.num_steps for command in seen] == [3, 8]
    with pytest.raises(FusionProxyError, match="no experiment file at .*other.py"):
        cli.run(["train", "--config", f"{tmp_path / 'other.py'}:8"])
    file.write_text("def get_config():\n    return 1\n")
    with pytest.raises(FusionProxyError, match="one configuration only"):
        cli.run(["train", "--config", f"{file}:8"])
    file.write_text("def get_config(size):\n    return 1\n")
    with pytest.raises(FusionProxyError, match="several configurations"):
        cli.run(["train", "--config", str(file)])


def test_the_hash_of_a_configuration_changes_with_any_field():
    assert config_hash(Config()) == config_hash(Config())
    assert config_hash(Config()) != config_hash(Config(seed=1))
    assert json.dumps(config_hash(Config())).isascii()


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def run(arguments):
        raise ModuleNotFoundError("No module named 'jax'", name="jax.numpy")

    monkeypatch.setattr(cli, "run", run)
    code, _, told = exit_of(monkeypatch, capsys, "train")
    assert code == 2 and "needs the package 'jax'" in told


def test_an_error_of_the_system_is_a_sentence_too(monkeypatch, capsys):
    def run(arguments):
        raise PermissionError(13, "Permission denied", "locked/a.png")

    monkeypatch.setattr(cli, "run", run)
    code, _, told = exit_of(monkeypatch, capsys, "fuse")
    assert (code, told) == (2, "fusionproxy: locked/a.png: Permission denied\n")


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m fusionproxy_jax.cli --help"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True
    )
    assert b"Traceback" not in done.stderr
