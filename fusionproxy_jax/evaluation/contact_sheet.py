"""One picture of many: labelled images in rows, to look at or to show."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fusionproxy_jax.errors import FusionProxyError

BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)


def contact_sheet(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]],
    *,
    cell_width_px: int = 320,
    gap_px: int = 8,
) -> np.ndarray:
    """Returns uint8 RGB [h, w, 3] with one line of labelled images per row.

    Every image is scaled to the cell width, keeping its shape; its label stands above
    it. A row whose labels are all empty gets no line of text, so that labels on the
    first row serve as column titles.

    Args:
        rows: (label, image) pairs; images are uint8 [h, w, 3] RGB or [h, w] grey.
        cell_width_px: width of each image on the sheet.
        gap_px: space between images and around them.

    Raises:
        FusionProxyError: no image at all, or one of another type or shape.
    """
    if not any(rows):
        raise FusionProxyError("a contact sheet needs at least one image")
    font = ImageFont.load_default(size=max(10, cell_width_px // 22))
    text_height = sum(font.getmetrics())
    pictures = [
        [(label, _scaled(image, cell_width_px)) for label, image in row]
        for row in rows
        if row
    ]
    # Top of each row's images, and the sheet's height behind the last one.
    tops, height = [], gap_px
    for row in pictures:
        height += text_height + gap_px // 2 if any(label for label, _ in row) else 0
        tops.append(height)
        height += max(picture.height for _, picture in row) + gap_px

    num_columns = max(map(len, pictures))
    width = gap_px + num_columns * (cell_width_px + gap_px)
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for top, row in zip(tops, pictures, strict=True):
        for column, (label, picture) in enumerate(row):
            left = gap_px + column * (cell_width_px + gap_px)
            sheet.paste(picture, (left, top))
            draw.text((left, top - gap_px // 2), label, INK, font, anchor="ld")
    return np.asarray(sheet)


def _scaled(image: np.ndarray, width_px: int) -> Image.Image:
    """Returns an RGB picture of the given width."""
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 3)
    ):
        raise FusionProxyError(
            f"an image for the contact sheet is {image.dtype} {image.shape}; it takes "
            "uint8 [h, w] or [h, w, 3], convert it first"
        )
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    height_px = max(1, round(picture.height * width_px / picture.width))
    if picture.size == (width_px, height_px):
        return picture
    return picture.resize((width_px, height_px), Image.Resampling.LANCZOS)
