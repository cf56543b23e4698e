"""Weights of foundation models from Hugging Face: only what their ports read."""

from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.foundation_model import FoundationModel
from fusionproxy_jax.panel.snapshots import check_weights, find_weights

# A repository may hold the same values for several frameworks.
_WANTED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)


def fetch_weights(model: FoundationModel) -> Path:
    """Returns where the weights of a model are, downloaded if they were not there.

    They come into the Hugging Face cache, each file whole or not at all; what an
    interrupted download has of a file is kept apart, and the next one goes on from
    there. Progress is shown on standard error. What is there but does not fit the
    network is downloaded anew.

    Raises:
        FusionProxyError: Hugging Face cannot be reached or does not give the weights,
            they do not fit, or cannot be written.
    """
    path = find_weights(model.repository)
    if path is not None:
        try:
            check_weights(model, path)
            return path
        except FusionProxyError:
            # Damaged, say; had it been another release, the new one is refused below.
            pass
    _download(model.repository, again=path is not None)
    path = find_weights(model.repository)
    if path is None:
        raise FusionProxyError(
            f"no safetensors came from https://huggingface.co/{model.repository}; try "
            "again with a network and HF_HUB_OFFLINE unset, or give a file of these "
            f"weights as {model.name}=PATH"
        )
    check_weights(model, path)
    return path


def _download(repository: str, *, again: bool) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            repository, allow_patterns=list(_WANTED), force_download=again
        )
    # Its own errors, and those of whichever HTTP client it uses: no common class.
    except Exception as error:
        raise FusionProxyError(
            f"could not fetch {repository}: {_reason(repository, error)}"
        ) from error


def _reason(repository: str, error: Exception) -> str:
    """Returns why, and what to do."""
    from huggingface_hub import constants, errors

    page = f"https://huggingface.co/{repository}"
    # A repository one has no access to is a kind of missing one: asked first.
    if isinstance(error, errors.GatedRepoError):
        return f"its owner asks for consent; give it on {page}, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no public {page} (or HF_ENDPOINT names another server)"
    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids the network; unset it and try again"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"{page} cannot be reached; try again with a network, or copy the cache "
            "of a machine that has it"
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0]}; what has arrived is kept, try again"
