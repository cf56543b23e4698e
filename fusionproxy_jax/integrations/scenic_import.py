"""Finding google-research/scenic, and telling it from its namesake on PyPI."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from fusionproxy_jax.errors import FusionProxyError


def scenic_module(name: str) -> ModuleType:
    """Returns a module of google-research/scenic.

    Raises:
        FusionProxyError: It is not there, the other project called scenic is, or a
            package that it needs is missing.
    """
    spec = importlib.util.find_spec("scenic")
    if spec is None:
        raise FusionProxyError(
            "google-research/scenic is not installed and not on PyPI; clone "
            "https://github.com/google-research/scenic with git and put the clone on "
            "PYTHONPATH"
        )
    # Looked for, not imported: the other project's import takes long and hooks into
    # Python's.
    folders = map(Path, spec.submodule_search_locations or ())
    if "scenic.model_lib" not in sys.modules and not any(
        (folder / "model_lib").is_dir() for folder in folders
    ):
        raise FusionProxyError(
            f"the package scenic in {spec.origin} is the scenario language from PyPI, "
            "another project of the same name as google-research/scenic; they cannot "
            "share an environment, so make one without it"
        )
    try:
        return importlib.import_module(f"scenic.{name}")
    except ModuleNotFoundError as error:
        raise FusionProxyError(
            f"google-research/scenic needs the package {error.name!r}, which is not "
            "installed; install it beside"
        ) from error
