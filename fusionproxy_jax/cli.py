"""The `fusionproxy` command: one frozen dataclass per subcommand, parsed by tyro.

Only the chosen subcommand's module is imported, so that `fusionproxy fuse` starts
without JAX.
"""

import dataclasses
import importlib
import inspect
import logging
import os
import runpy
import sys
from pathlib import Path

from fusionproxy_jax import __version__
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


def _usage() -> str:
    lines = [f"  {name:<16}{line}" for name, (_, _, line) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fusionproxy COMMAND [OPTIONS]   (fusionproxy COMMAND --help)",
            "",
            *lines,
        ]
    )


def _load_config(text: str) -> object:
    """Returns `get_config()` of an experiment file; `FILE.py:NAME` passes the name."""
    path, name = Path(text), None
    if not path.is_file() and ":" in text:
        file, _, name = text.rpartition(":")
        path = Path(file)
    if not path.is_file():
        raise FusionProxyError(f"no experiment file at {path}; see experiments/")
    names = runpy.run_path(str(path))
    if "get_config" not in names:
        raise FusionProxyError(f"{path} defines no get_config() -> Config")
    get_config, given = names["get_config"], () if name is None else (name,)
    try:
        inspect.signature(get_config).bind(*given)
    except TypeError as error:
        raise FusionProxyError(
            f"{path} has one configuration only; leave :{name} away"
            if given
            else f"{path} has several configurations; name one, as {path}:NAME"
        ) from error
    return get_config(*given)


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

    import tyro

    keywords = {}
    if "config" in {field.name for field in dataclasses.fields(command_class)}:
        file, rest = _split_config(rest)
        if file is not None:
            keywords["config"] = _load_config(file)
    if keywords:
        command_class = _with_defaults(command_class, keywords)
    command = tyro.cli(command_class, args=rest, prog=f"fusionproxy {name}")
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
