"""The one set of named tensors in what a checkpoint holds besides."""

from collections import deque
from typing import Any

from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError, quoted
from fusionproxy_jax.checkpoints.torch_records import TorchTensor

# {"checkpoint": {"model": {...}}} is the deepest seen; a bound for hostile files.
_MAX_DEPTH = 8


def find_state_dict(content: Any) -> dict[str, TorchTensor]:
    """Returns the only dict of tensors under `content`, itself or nested in dicts.

    An optimiser's tensors have numbers for names and are passed over, as are settings.

    Raises:
        RefusedFileError: There is no such dict, or several.
    """
    found: dict[str, dict[str, TorchTensor]] = {}
    seen: set[int] = set()
    todo = deque([("", 0, content)])
    while todo:
        place, depth, value = todo.popleft()
        # One dict may appear under two names, or within itself.
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        # Not value.items(): a hostile pickle can put an attribute of that name there.
        members = [(k, v) for k, v in dict.items(value) if isinstance(k, str)]
        tensors = {k: v for k, v in members if isinstance(v, TorchTensor)}
        if tensors:
            found[place or "the top level"] = tensors
        if depth < _MAX_DEPTH:
            todo += [(f"{place}/{k}".lstrip("/"), depth + 1, v) for k, v in members]
    if not found:
        raise RefusedFileError(
            "holds no dict of named tensors; save a state dict: "
            "`torch.save(model.state_dict(), path)`"
        )
    if len(found) > 1:
        places = ", ".join(quoted(place) for place in sorted(found)[:4])
        raise RefusedFileError(
            f"holds {len(found)} sets of tensors ({places}); save the one wanted alone"
        )
    return next(iter(found.values()))
