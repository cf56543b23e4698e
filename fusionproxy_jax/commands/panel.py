"""`fusionproxy panel`: which frozen backbones are here, and fetching their weights."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from fusionproxy_jax.errors import FusionProxyError

_COMPACT_SOURCES = """\
The panel compact is two COCO detectors, Apache-2.0, not hosted on Hugging Face:
  nanodet_m_416.onnx  NanoDet-m at 416x416 px: a checkpoint from the releases of
                      https://github.com/RangiLyu/nanodet, made ONNX by its
                      tools/export_onnx.py
  picodet_s_320.onnx  PicoDet-S at 320x320 px: configs/picodet of
                      https://github.com/PaddlePaddle/PaddleDetection, made ONNX by its
                      tools/export_model.py and paddle2onnx
Put both files, so named, into one folder, and that folder's path into the environment
variable FUSIONPROXY_MODELS."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say which backbones' weights are here, and what each backbone is.

    Weights that are here are compared with the network, name by name. Parameters and
    multiply-adds are those up to the block whose features are taken, for one image of
    256x256 px. The exit code is 1 if one of the NAMEs cannot be used.
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="[NAME ...]",
            help="Backbones or panels as in --panel.backbones; all that are known.",
        ),
    ] = ()

    def run(self) -> int:
        """Prints the table and what `auto` would take."""
        from fusionproxy_jax.commands.panel_table import find_rows, table
        from fusionproxy_jax.panel.registry import (
            FOUNDATION_MODELS,
            expand,
            parse_entry,
        )

        rows = list(find_rows(self.names or (*FOUNDATION_MODELS, "compact")))
        print(table(rows))
        for row in rows:
            if row.problem:
                print(f"{row.name}: {row.problem}")
        taken = [parse_entry(entry).name for entry in expand(["auto"])]
        print(f"auto takes {', '.join(taken) or 'none: alignment is off'}")
        bad = [row for row in rows if row.state != "present"]
        if not self.names or not bad:
            return 0
        if fetched := dict.fromkeys(row.fetched_as for row in bad if row.fetched_as):
            print(f"to fetch: fusionproxy panel fetch {' '.join(fetched)}")
        return 1


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Download the weights of backbones from Hugging Face into its cache.

    Only safetensors and the configuration; HF_HOME or HF_HUB_CACHE move the cache. An
    interrupted download is continued by the same command.
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME [NAME ...]", help="Backbones, paper or compact."),
    ]

    def run(self) -> int:
        """Downloads what is not here and says where everything is."""
        from fusionproxy_jax.panel.download import fetch_weights
        from fusionproxy_jax.panel.onnx_backbone import find_compact
        from fusionproxy_jax.panel.registry import FOUNDATION_MODELS, PAPER

        names = dict.fromkeys(
            member
            for name in self.names
            for member in (PAPER if name == "paper" else (name,))
        )
        unknown = names.keys() - {*FOUNDATION_MODELS, "compact"}
        if unknown or not names:
            raise FusionProxyError(
                f"cannot fetch {', '.join(sorted(unknown)) or 'nothing'}; give "
                f"{', '.join(FOUNDATION_MODELS)}, paper or compact"
            )
        code = 0
        for name in names:
            if name != "compact":
                model = FOUNDATION_MODELS[name]
                print(f"{name} ({model.licence}): {fetch_weights(model)}")
            elif found := find_compact():
                print(f"compact (Apache-2.0): {', '.join(found)}")
            else:
                print(_COMPACT_SOURCES)
                code = 1
        return code


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The foundation panel: frozen networks whose features the student must keep.

    fusionproxy panel check

    fusionproxy panel fetch dinov2 clip
    """

    action: Annotated[
        Annotated[Check, tyro.conf.subcommand("check", prefix_name=False)]
        | Annotated[Fetch, tyro.conf.subcommand("fetch", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        """Runs the action."""
        return self.action.run()
