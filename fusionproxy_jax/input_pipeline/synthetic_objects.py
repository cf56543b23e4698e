"""The warm things of a synthetic road scene: cars and people, in metres."""

from dataclasses import dataclass

import numpy as np

from fusionproxy_jax.input_pipeline.synthetic_canvas import (
    Canvas,
    ellipse,
    polygon,
    rounded_box,
)
from fusionproxy_jax.input_pipeline.synthetic_street import Ground


@dataclass(frozen=True)
class Car:
    """A car seen from the front (`oncoming`) or from behind."""

    x: float
    depth: float
    oncoming: bool

    def height_px(self, ground: Ground) -> float:
        """Height of the car on the image."""
        return ground.px(1.5, self.depth)

    def lamps(self, ground: Ground) -> list[tuple[float, float]]:
        """Centres (y, x) of the two head or tail lamps."""
        y = ground.contact_px(self.depth) - ground.px(0.7, self.depth)
        offset = ground.px(0.68, self.depth)
        return [(y, self.x - offset), (y, self.x + offset)]


def paint_car(
    canvas: Canvas, ground: Ground, car: Car, rng: np.random.Generator, *, lights: bool
) -> None:
    """Paints a car: cool body and panes, hot engine or exhaust, warm wheels."""
    foot = ground.contact_px(car.depth)

    def box(low_m: float, high_m: float, left_m: float, right_m: float):
        px = (ground.px(v, car.depth) for v in (low_m, high_m, left_m, right_m))
        low, high, left, right = px
        return (foot - high, car.x + left, foot - low, car.x + right)

    def part(where, colour, heat, *, round_m=0.1, warm=False, shape=None):
        outline = shape or rounded_box(where, radius_px=ground.px(round_m, car.depth))
        labels = ("car", "warm") if warm else ("car",)
        canvas.paint(
            outline,
            where,
            colour=colour,
            temperature=heat,
            nearness=car.depth,
            labels=labels,
        )

    paint = np.array(
        [[0.7, 0.1, 0.1], [0.15, 0.25, 0.5], [0.8, 0.8, 0.82], [0.12, 0.12, 0.13]]
    )[rng.integers(4)]
    shadow = box(-0.12, 0.12, -1.0, 1.0)
    canvas.paint(ellipse(shadow), shadow, colour=(0.16, 0.16, 0.17), temperature=0.46)
    for left in (-0.86, 0.6):
        part(box(0.0, 0.6, left, left + 0.26), (0.05, 0.05, 0.05), 0.74, warm=True)
    cabin = box(0.8, 1.5, -0.72, 0.72)
    slant = ground.px(0.18, car.depth)
    top, left, bottom, right = cabin
    corners = [
        (top, left + slant),
        (top, right - slant),
        (bottom, right),
        (bottom, left),
    ]
    part(cabin, paint * 0.9, 0.4, shape=polygon(corners))
    pane = box(0.92, 1.4, -0.55, 0.55)
    part(pane, (0.22, 0.28, 0.33), 0.28, round_m=0.12)
    part(box(0.22, 0.98, -0.9, 0.9), paint, 0.42, round_m=0.2)
    if car.oncoming:
        part(box(0.38, 0.78, -0.48, 0.48), (0.1, 0.1, 0.1), 0.92, warm=True)
    else:
        part(box(0.3, 0.62, -0.3, 0.3), paint * 0.8, 0.5)
        part(box(0.2, 0.36, 0.35, 0.55), (0.1, 0.1, 0.1), 0.95, warm=True)
    lamp = (0.95, 0.93, 0.85) if car.oncoming else (0.6, 0.05, 0.05)
    for left in (-0.82, 0.54):
        part(box(0.6, 0.8, left, left + 0.28), lamp, 0.6 if lights else 0.44)


def paint_person(
    canvas: Canvas, ground: Ground, x: float, depth: float, rng: np.random.Generator
) -> None:
    """Paints a walking person: warm clothes, warmer head and hands."""
    foot = ground.contact_px(depth)
    tall = rng.uniform(0.92, 1.08)
    stride = rng.uniform(0.06, 0.24)
    coat, trousers = rng.uniform(0.08, 0.55, (2, 3))
    skin = rng.choice([[0.78, 0.6, 0.5], [0.55, 0.4, 0.3], [0.35, 0.25, 0.2]])

    def px(metres: float) -> float:
        return ground.px(metres * tall, depth)

    def paint(shape, box, colour, heat):
        canvas.paint(
            shape,
            box,
            colour=colour,
            temperature=heat,
            nearness=depth,
            labels=("person", "warm"),
        )

    def part(low_m, high_m, half_m, colour, heat):
        box = (foot - px(high_m), x - px(half_m), foot - px(low_m), x + px(half_m))
        paint(ellipse(box), box, colour, heat)

    def limb(top_m, bottom_m, top_x, bottom_x, half_m, colour, heat):
        corners = [
            (foot - px(top_m), x + px(top_x - half_m)),
            (foot - px(top_m), x + px(top_x + half_m)),
            (foot - px(bottom_m), x + px(bottom_x + 0.75 * half_m)),
            (foot - px(bottom_m), x + px(bottom_x - 0.75 * half_m)),
        ]
        columns = [corner[1] for corner in corners]
        box = (corners[0][0], min(columns), corners[2][0], max(columns))
        paint(polygon(corners), box, colour, heat)

    for sign in (-1, 1):
        limb(0.9, 0.0, sign * 0.08, sign * stride, 0.1, trousers, 0.76)
        limb(1.4, 0.75, sign * 0.22, -sign * stride * 1.2 + sign * 0.2, 0.06, coat, 0.8)
    part(0.72, 1.52, 0.24, coat, 0.82)
    limb(1.5, 1.4, 0.0, 0.0, 0.07, skin, 0.95)
    part(1.46, 1.74, 0.12, skin, 0.97)
