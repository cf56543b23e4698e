"""A canvas that paints one scene for two cameras at once, and the textures on it.

Every shape is painted with a colour, for the visible camera, and a temperature, for the
infrared one, under the same antialiased outline: both images are aligned exactly, and
the outline of every labelled object is known. Positions are in pixels, y downwards,
colours and temperatures in [0, 1].
"""

from collections.abc import Callable, Iterable

import numpy as np

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Signed distance in pixels to an outline at (y, x), negative inside."""

Box = tuple[float, float, float, float]
"""Top, left, bottom, right."""


def ellipse(box: Box) -> Shape:
    """Returns the ellipse that fills `box`."""
    top, left, bottom, right = box
    half_height, half_width = (bottom - top) / 2, (right - left) / 2
    y0, x0 = (top + bottom) / 2, (left + right) / 2

    def distance(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        radius = np.hypot((y - y0) / half_height, (x - x0) / half_width)
        return (radius - 1) * min(half_height, half_width)

    return distance


def rounded_box(box: Box, *, radius_px: float = 0.0) -> Shape:
    """Returns `box` with rounded corners."""
    top, left, bottom, right = box
    radius_px = min(radius_px, (bottom - top) / 2, (right - left) / 2)

    def distance(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        dy = np.abs(y - (top + bottom) / 2) - (bottom - top) / 2 + radius_px
        dx = np.abs(x - (left + right) / 2) - (right - left) / 2 + radius_px
        outside = np.hypot(np.maximum(dy, 0), np.maximum(dx, 0))
        return outside + np.minimum(np.maximum(dy, dx), 0) - radius_px

    return distance


def polygon(corners: Iterable[tuple[float, float]]) -> Shape:
    """Returns the convex polygon with these (y, x) corners, clockwise on the screen."""
    corners = list(corners)

    def distance(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = np.full(np.broadcast_shapes(y.shape, x.shape), -np.inf)
        for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
            length = max(np.hypot(y1 - y0, x1 - x0), 1e-6)
            edge = ((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / length
            result = np.maximum(result, edge)
        return result

    return distance


class Canvas:
    """Colour [h, w, 3], temperature [h, w] and label masks [h, w] of one scene.

    `nearness` [h, w] is one over the distance, 1 at the lower edge of the image and 0
    infinitely far away.
    """

    def __init__(self, height: int, width: int, *, labels: Iterable[str]):
        self.colour = np.zeros((height, width, 3), np.float32)
        self.temperature = np.zeros((height, width), np.float32)
        self.nearness = np.zeros((height, width), np.float32)
        self.masks = {label: np.zeros((height, width), bool) for label in labels}

    def paint(
        self,
        shape: Shape,
        box: Box,
        *,
        colour: Iterable[float],
        temperature: float,
        nearness: float | None = None,
        labels: Iterable[str] = (),
    ) -> None:
        """Paints `shape`, which lies inside `box`, over what is there.

        What is more than half covered takes `labels` and loses all others: a car in
        front of a person hides the person. Without `nearness` it lies where the
        surface below it is.
        """
        height, width = self.temperature.shape
        top, left = (max(int(np.floor(v)) - 1, 0) for v in box[:2])
        bottom = min(int(np.ceil(box[2])) + 1, height)
        right = min(int(np.ceil(box[3])) + 1, width)
        if top >= bottom or left >= right:
            return
        window = np.s_[top:bottom, left:right]
        y = np.arange(top, bottom)[:, None] + 0.5
        x = np.arange(left, right)[None, :] + 0.5
        coverage = np.clip(0.5 - shape(y, x), 0, 1).astype(np.float32)
        # Light comes from above: every shape darkens towards its foot.
        shade = 1.08 - 0.28 * np.clip((y - box[0]) / max(box[2] - box[0], 1), 0, 1)
        tint = shade[..., None] * np.asarray(colour, np.float32)
        self.colour[window] += coverage[..., None] * (tint - self.colour[window])
        self.temperature[window] += coverage * (temperature - self.temperature[window])
        if nearness is not None:
            self.nearness[window] += coverage * (nearness - self.nearness[window])
        for label, mask in self.masks.items():
            mask[window][coverage > 0.5] = label in labels


def resize_bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `grid` [h, w] stretched so that its corners meet the image's corners."""
    y = np.linspace(0, grid.shape[0] - 1, height)
    x = np.linspace(0, grid.shape[1] - 1, width)
    y0 = np.minimum(y.astype(int), grid.shape[0] - 2)
    x0 = np.minimum(x.astype(int), grid.shape[1] - 2)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    rows = grid[y0] * (1 - fy) + grid[y0 + 1] * fy
    return rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, *, num_octaves: int = 5
) -> np.ndarray:
    """Returns cloud-like texture float32 [h, w], about zero mean and unit deviation."""
    result = np.zeros((height, width))
    for octave in range(num_octaves):
        cells = 3 * 2**octave
        grid = rng.standard_normal((cells + 1, cells + 1))
        result += 0.7**octave * resize_bilinear(grid, height, width)
    return (result / max(result.std(), 1e-6)).astype(np.float32)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Returns `image` [h, w] or [h, w, c] under a Gaussian, edges replicated."""
    radius = max(1, int(np.ceil(3 * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image, padding, mode="edge")
        size = image.shape[axis]
        image = sum(
            tap * np.take(padded, range(shift, shift + size), axis=axis)
            for shift, tap in enumerate(taps)
        )
    return image
