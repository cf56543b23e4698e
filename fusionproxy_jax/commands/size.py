"""Reads image sizes given on the command line."""

import re

from fusionproxy_jax.errors import FusionProxyError


def parse_size(text: str) -> tuple[int, int]:
    """Returns (height, width) of a text such as 480x640.

    Raises:
        FusionProxyError: The text is no size, or one no student takes (below 16 px).
    """
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    height, width = (int(number) for number in match.groups()) if match else (0, 0)
    if min(height, width) < 16:
        raise FusionProxyError(
            f"size {text!r} is not allowed; give height x width, at least 16 px, such "
            "as 480x640"
        )
    return height, width
