"""The `fusionproxy` command: one frozen dataclass per subcommand, parsed by tyro.

Only the chosen subcommand's module is imported, so that `fusionproxy fuse` starts
without JAX.
"""

import contextlib
import dataclasses
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Sequence

from fusionproxy_jax import __version__
from fusionproxy_jax.config.experiment_file import load_experiment
from fusionproxy_jax.errors import FusionProxyError

# Subcommand -> (module under fusionproxy_jax.commands, class, one line of help).
COMMANDS = {
    "fuse": ("fuse", "Fuse", "fuse files or folders of visible and infrared images"),
    "quickstart": ("quickstart", "Quickstart", "run the whole chain in miniature"),
    "prepare": (
        "prepare",
        "Prepare",
        "prepare a public data set with its builder in data/",
    ),
    "train-teacher": (
        "train_teacher",
        "TrainTeacher",
        "train a compact teacher's network from scratch",
    ),
    "export-teacher": (
        "export_teacher",
        "ExportTeacher",
        "write a trained teacher's network as safetensors",
    ),
    "panel": ("panel", "Panel", "frozen backbones: which are here, and fetching them"),
    "teach": ("teach", "Teach", "draw the teacher ensemble of every training image"),
    "train": ("train", "Train", "distil a student from a teacher cache"),
    "sweep": ("sweep", "Sweep", "train many students at once and compare them"),
    "ablate": ("ablate", "Ablate", "run the rows of the paper's Table 4 on your data"),
    "runs": ("runs", "Runs", "list runs: how far, how well, and where they differ"),
    "export": ("export", "Export", "write a trained student as ONNX and safetensors"),
    "evaluate": ("evaluate", "Evaluate", "fusion metrics of a student and controls"),
    "parity": (
        "parity",
        "Parity",
        "compare float16, int8 and fixed-size files with the float32 one",
    ),
    "describe": ("describe", "Describe", "parameters and multiply-adds of a network"),
    "bench": ("bench", "Bench", "measure latency or training throughput"),
}

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A line across a box of tyro's, or its upper or lower edge.
_RULE = re.compile(r"^(?:[│ ]*[─-]{8,}[│ ]*|╭.*╮|╰.*╯)$", re.MULTILINE)


def _usage() -> str:
    lines = [f"  {name:<16}{line}" for name, (_, _, line) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fusionproxy COMMAND [OPTIONS]   (fusionproxy COMMAND --help)",
            "",
            *lines,
        ]
    )


def _split_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Takes `--config FILE` out of `arguments`; its values become the defaults."""
    for position, argument in enumerate(arguments):
        if argument == "--config":
            if position + 1 == len(arguments):
                raise FusionProxyError("--config needs the path of an experiment file")
            rest = arguments[:position] + arguments[position + 2 :]
            return arguments[position + 1], rest
        if argument.startswith("--config="):
            rest = arguments[:position] + arguments[position + 1 :]
            return argument.removeprefix("--config="), rest
    return None, arguments


def run(arguments: list[str]) -> int:
    """Runs one subcommand and returns its exit code; lets `FusionProxyError` through.

    A command class is a frozen dataclass with `run()`; one with a `config` field takes
    `--config FILE`, and every field of the config as an override
    (`--loss.routing-temperature 0.3`).
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise FusionProxyError(
            f"no command {name!r}; commands are {', '.join(COMMANDS)}"
        )
    module_name, class_name, _ = COMMANDS[name]
    module = importlib.import_module(f"fusionproxy_jax.commands.{module_name}")
    command_class = getattr(module, class_name)

    fields = {field.name: field for field in dataclasses.fields(command_class)}
    if "config" in fields:
        file, rest = _split_config(rest)
        if file is not None:
            kind = type(fields["config"].default_factory())
            defaults = {"config": load_experiment(file, kind)}
            command_class = _with_defaults(command_class, defaults)
    command = _parse(command_class, rest, f"fusionproxy {name}")
    return command.run() or 0


def _with_defaults(command_class: type, defaults: dict[str, object]) -> type:
    """Returns `command_class` with new default values of the named fields."""
    changed = [
        (name, command_class.__annotations__[name], dataclasses.field(default=value))
        for name, value in defaults.items()
    ]
    return dataclasses.make_dataclass(
        command_class.__name__,
        changed,
        bases=(command_class,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": command_class.__doc__},
    )


def _parse(command_class: type, arguments: Sequence[str], program: str) -> object:
    """Returns the command that `arguments` describe.

    Raises:
        FusionProxyError: What tyro has against them, in one sentence.
    """
    import tyro

    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            command = tyro.cli(command_class, args=arguments, prog=program)
    except SystemExit as stop:
        if stop.code:
            raise FusionProxyError(_sentence(told.getvalue(), program)) from None
        raise
    sys.stderr.write(told.getvalue())
    return command


def _sentence(box: str, program: str) -> str:
    """Returns what a box of tyro's says: the error, and the flag it would suggest."""
    text = _COLOUR.sub("", box)
    # Where the terminal has no characters for boxes, the title is a line like others.
    sections = [
        [line.strip("│") for line in section.splitlines() if line.strip()]
        for section in _RULE.split(text if "╭" in text else text.partition("\n")[2])
        if section.strip()
    ]
    if not sections:
        return f"the arguments are not understood; see {program} --help"
    error, *more = sections
    if error[0].strip().startswith("Missing from"):
        # Below each name, further in, comes its help.
        least = min(map(_indent, error[1:]))
        names = [line.split()[0] for line in error[1:] if _indent(line) == least]
        return f"{program} needs {', '.join(names)}; see {program} --help"
    words = " ".join(" ".join(error).split())
    meant = [section for section in more if section[0].strip() == "Perhaps you meant:"]
    flag = re.search(r"--[\w.-]+", " ".join(meant[0])) if meant else None
    what_next = f"did you mean {flag[0]}?" if flag else f"see {program} --help"
    return f"{words.rstrip('.')}; {what_next}"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def main() -> None:
    """Entry point: bad input ends in one sentence on stderr and exit code 2."""
    # Orbax warns through absl of what is meant: opening a checkpoint to read it only.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        code = run(sys.argv[1:])
    except FusionProxyError as error:
        print(f"fusionproxy: {error}", file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root == "fusionproxy_jax":
            raise
        print(
            f"fusionproxy: this command needs the package {root!r}; install "
            "fusionproxy-jax with its extra 'train'",
            file=sys.stderr,
        )
        code = 2
    except BrokenPipeError:
        # The reader of our output went away; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"fusionproxy: {where}{error.strerror or error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("fusionproxy: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
