"""The ground, road and buildings of a synthetic road scene.

One camera 1.5 m above a flat road sees everything, so the size of a thing follows from
where it touches the ground: at depth_px below the horizon, 1.5 m are depth_px pixels.
"""

from dataclasses import dataclass

import numpy as np

from fusionproxy_jax.input_pipeline.synthetic_canvas import (
    Canvas,
    fractal_noise,
    polygon,
    rounded_box,
)

_CAMERA_HEIGHT_M = 1.5


@dataclass(frozen=True)
class Ground:
    """The flat ground below the horizon; depth 0 is the horizon, 1 the lower edge."""

    horizon_px: float
    height: int

    @property
    def depth_px(self) -> float:
        """Rows from the horizon to the lower edge of the image."""
        return self.height - self.horizon_px

    def contact_px(self, depth: float) -> float:
        """Row at which a thing at `depth` touches the ground."""
        return self.horizon_px + depth * self.depth_px

    def px(self, metres: float, depth: float) -> float:
        """Size on the image of `metres` at `depth`."""
        return metres / _CAMERA_HEIGHT_M * depth * self.depth_px


def paint_street(
    canvas: Canvas,
    ground: Ground,
    layout: np.random.Generator,
    texture: np.random.Generator,
    *,
    lit: bool,
) -> np.ndarray:
    """Paints sky, ground, road and buildings; returns the lit lamps (y, x) [n, 2]."""
    height, width = canvas.temperature.shape
    horizon = ground.horizon_px
    full = (0.0, 0.0, float(height), float(width))
    sky = np.array([0.55, 0.72, 0.9]) + layout.uniform(-0.05, 0.05, 3)
    canvas.paint(rounded_box(full), full, colour=sky, temperature=0.08)
    soil = (horizon, 0.0, float(height), float(width))
    verge = layout.choice([[0.34, 0.42, 0.22], [0.5, 0.47, 0.43]])
    canvas.paint(rounded_box(soil), soil, colour=verge, temperature=0.3)
    rows = np.arange(height)[:, None] + 0.5
    canvas.nearness[:] = np.clip((rows - horizon) / ground.depth_px, 0, 1)

    centre, half = width / 2, 0.5 * width
    road = [
        (horizon, centre - 0.02 * width),
        (horizon, centre + 0.02 * width),
        (height, centre + half * 1.15),
        (height, centre - half * 1.15),
    ]
    canvas.paint(polygon(road), soil, colour=(0.36, 0.36, 0.38), temperature=0.4)
    for start in np.arange(0.06, 1.0, 0.16):
        _paint_lane_mark(canvas, ground, start, start + 0.07)
    lamps = []
    for side in (-1, 1):
        lamps += _paint_buildings(canvas, ground, layout, side, lit=lit)

    grain = fractal_noise(texture, height, width, num_octaves=7)
    clouds = fractal_noise(texture, height, width, num_octaves=3)
    below = np.clip(np.arange(height)[:, None] - horizon, 0, 1)
    canvas.colour *= 1 + (0.07 * below * grain + 0.04 * (1 - below) * clouds)[..., None]
    canvas.temperature += 0.02 * grain + 0.01 * clouds
    return np.array(lamps).reshape(-1, 2)


def _paint_lane_mark(canvas: Canvas, ground: Ground, near: float, far: float) -> None:
    """Paints a dash of the centre line between two depths."""
    top, bottom = ground.contact_px(near), ground.contact_px(far)
    centre = canvas.temperature.shape[1] / 2
    thin, thick = ground.px(0.09, near), ground.px(0.09, far)
    corners = [
        (top, centre - thin),
        (top, centre + thin),
        (bottom, centre + thick),
        (bottom, centre - thick),
    ]
    box = (top, centre - thick, bottom, centre + thick)
    canvas.paint(polygon(corners), box, colour=(0.85, 0.85, 0.8), temperature=0.38)


def _paint_buildings(
    canvas: Canvas, ground: Ground, rng: np.random.Generator, side: int, *, lit: bool
) -> list[tuple[float, float]]:
    """Paints a row of houses that shrinks towards the horizon; returns lit lamps."""
    width = canvas.temperature.shape[1]
    lamps = []
    edges = np.array([0.07, 0.13, 0.22, 0.34, 0.5, 0.56])
    for inner, outer in zip(edges[:-1], edges[1:], strict=True):
        wall = rng.choice([[0.62, 0.5, 0.42], [0.7, 0.66, 0.58], [0.5, 0.52, 0.56]])
        top = ground.horizon_px * (
            1 - np.clip(inner * rng.uniform(2.0, 3.2), 0.15, 0.95)
        )
        bottom = ground.horizon_px + 0.35 * inner * ground.depth_px
        left, right = sorted(
            (width * (0.5 + side * inner), width * (0.5 + side * outer))
        )
        box = (top, left, bottom, right)
        heat = rng.uniform(0.24, 0.36)
        canvas.paint(
            rounded_box(box),
            box,
            colour=wall,
            temperature=heat,
            nearness=0.35 * inner,
        )
        _paint_windows(canvas, box, rng, heat, lit=lit, sill=ground.horizon_px * 0.86)
        if inner in (edges[1], edges[3]):
            post = width * (0.5 + side * inner * 0.95)
            head = ground.horizon_px * (1 - 1.6 * inner)
            half = max(0.012 * width * inner, 0.4)
            pole = (head, post - half, bottom, post + half)
            canvas.paint(
                rounded_box(pole), pole, colour=(0.25, 0.25, 0.26), temperature=0.22
            )
            lamps.append((head, post))
    return lamps


def _paint_windows(
    canvas: Canvas,
    wall: tuple[float, float, float, float],
    rng: np.random.Generator,
    heat: float,
    *,
    lit: bool,
    sill: float,
) -> None:
    """Paints a grid of windows above row `sill`, where no person stands in front."""
    top, left, bottom, right = wall
    num_columns = max(1, round((right - left) / (0.07 * canvas.temperature.shape[1])))
    pitch_x, pitch_y = (right - left) / num_columns, 0.11 * sill
    for y in np.arange(top + 0.5 * pitch_y, min(bottom, sill) - pitch_y, pitch_y):
        for column in range(num_columns):
            x = left + (column + 0.25) * pitch_x
            box = (y, x, y + 0.55 * pitch_y, x + 0.5 * pitch_x)
            bright = lit and rng.random() < 0.2
            # Brighter than white: it has to outshine the night's ambient light.
            colour = (14.0, 10.5, 6.0) if bright else (0.2, 0.25, 0.32)
            canvas.paint(rounded_box(box), box, colour=colour, temperature=heat + 0.08)
