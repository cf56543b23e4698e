"""Made-up road scenes seen by both cameras, with the warm people and cars known.

For tests and the quick start: the infrared image follows temperature, the visible one
colour and light, so what a fused image should show is known in every scene. In `night`
people are in the infrared image only, in `fog` distance hides them, in `glare`
headlights saturate the visible image around them.
"""

from typing import Literal, get_args

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic_canvas import (
    Canvas,
    blur,
    fractal_noise,
)
from fusionproxy_jax.input_pipeline.synthetic_objects import (
    Car,
    paint_car,
    paint_person,
)
from fusionproxy_jax.input_pipeline.synthetic_street import Ground, paint_street

Scene = Literal["day", "night", "fog", "glare"]
SCENES: tuple[str, ...] = get_args(Scene)

# Light on colours without lamps, per channel: blue at night, grey in fog.
_AMBIENT = {
    "day": (1.0, 0.98, 0.94),
    "night": (0.045, 0.05, 0.065),
    "fog": (0.8, 0.82, 0.84),
    "glare": (0.13, 0.12, 0.14),
}


def synthetic_pair(
    index: int,
    *,
    height: int = 240,
    width: int = 320,
    scene: Scene | None = None,
    seed: int = 0,
) -> dict:
    """Returns pair `index` of an endless series, the same for the same `seed`.

    Without `scene` the series goes through all scenes in turn. Size changes the
    resolution, not what is in the scene.

    Returns:
        A dict of id, group and scene, visible uint8 [h, w, 3], infrared float32 [h, w]
        in [0, 1], and bool masks [h, w]: person_mask, car_mask, and warm_mask (people,
        and the engine, wheels and exhaust of cars).

    Raises:
        FusionProxyError: The size is below 32 pixels or the scene is unknown.
    """
    if min(height, width) < 32:
        raise FusionProxyError(
            f"a synthetic pair of {height}x{width} is too small; ask for at least 32x32"
        )
    scene = scene or SCENES[index % len(SCENES)]
    if scene not in SCENES:
        raise FusionProxyError(
            f"scene {scene!r} is unknown; scenes are {', '.join(SCENES)}"
        )
    layout, texture = (
        np.random.default_rng([seed, index, stream]) for stream in range(2)
    )
    canvas = Canvas(height, width, labels=("person", "car", "warm"))
    ground = Ground(horizon_px=layout.uniform(0.4, 0.48) * height, height=height)
    lamps = paint_street(canvas, ground, layout, texture, lit=scene == "night")
    cars = _paint_traffic(canvas, ground, layout, scene)

    visible = _light(canvas, ground, scene, lamps, cars, texture)
    infrared = _sense_heat(canvas.temperature, texture, scene)
    return {
        "id": f"synthetic/{seed}_{index:05d}_{scene}",
        "group": f"synthetic/{seed}_{index:05d}",
        "scene": scene,
        "visible": visible,
        "infrared": infrared,
        **{f"{label}_mask": mask for label, mask in canvas.masks.items()},
    }


class SyntheticPairs:
    """A random-access source of `synthetic_pair` items, for whatever takes pairs."""

    def __init__(self, num_pairs: int, *, height: int, width: int, seed: int = 0):
        self._num_pairs, self._size, self._seed = num_pairs, (height, width), seed

    def __len__(self) -> int:
        return self._num_pairs

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self._num_pairs:
            raise IndexError(f"pair {index} of {self._num_pairs} synthetic pairs")
        height, width = self._size
        pair = synthetic_pair(index, height=height, width=width, seed=self._seed)
        return {key: pair[key] for key in ("id", "group", "visible", "infrared")}


def _paint_traffic(
    canvas: Canvas, ground: Ground, rng: np.random.Generator, scene: str
) -> list[Car]:
    """Paints cars and people from far to near; returns the cars."""
    width = canvas.temperature.shape[1]
    things: list[tuple[float, Car | float]] = []
    for lane in rng.permutation([0.38, 0.66])[: rng.integers(1, 3)]:
        depth = rng.uniform(0.2, 0.6)
        # Lanes converge at the vanishing point in the middle of the horizon.
        x = width * (0.5 + (lane - 0.5) * 2.2 * depth)
        things.append((depth, Car(x=x, depth=depth, oncoming=bool(lane < 0.5))))
    if scene == "glare":
        depth = rng.uniform(0.3, 0.5)
        x = width * (0.5 - 0.28 * depth)
        things = [(depth, Car(x=x, depth=depth, oncoming=True))]
    for _ in range(rng.integers(2, 5)):
        depth = rng.uniform(0.3, 0.75)
        side = rng.choice([-1, 1])
        offset = rng.uniform(0.42, 0.62) if rng.random() < 0.7 else 0.12
        things.append((depth, width * (0.5 + side * offset * (0.25 + 0.75 * depth))))
    cars = [thing for _, thing in things if isinstance(thing, Car)]
    for depth, thing in sorted(things, key=lambda item: item[0]):
        if isinstance(thing, Car):
            paint_car(canvas, ground, thing, rng, lights=scene in ("night", "glare"))
        else:
            paint_person(canvas, ground, thing, depth, rng)
    return cars


def _light(
    canvas: Canvas,
    ground: Ground,
    scene: str,
    lamps: np.ndarray,
    cars: list[Car],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns what the visible camera sees of the canvas, uint8 [h, w, 3]."""
    height, width = canvas.temperature.shape
    y = np.arange(height)[:, None] + 0.5
    x = np.arange(width)[None, :] + 0.5
    visible = canvas.colour * np.float32(_AMBIENT[scene])
    if scene == "fog":
        # Beer-Lambert along the line of sight.
        distance = 1 / np.maximum(canvas.nearness, 0.04)
        transmission = np.exp(-0.65 * distance)[..., None]
        visible = transmission * visible + (1 - transmission) * 0.74
    # A person is dark in front of a light: in the mask nothing nearer hides them.
    behind = ~canvas.masks["person"][..., None]
    if scene == "night":
        for lamp_y, lamp_x in lamps:
            glow = np.hypot(y - lamp_y, x - lamp_x) / (0.03 * height)
            halo = 0.9 * np.exp(-(glow**2)) + 0.12 * np.exp(-glow / 2)
            visible = visible + behind * halo[..., None] * np.float32([1.0, 0.78, 0.45])
    for car in cars:
        if scene == "glare" and car.oncoming:
            visible = visible + _bloom(car, ground, y, x)[..., None]
        elif scene == "night":
            visible = visible + behind * _car_lights(car, ground, y, x)
    visible = blur(visible.astype(np.float32), 0.45)
    grain = 0.012 if scene in ("night", "glare") else 0.006
    visible = visible + grain * rng.standard_normal(visible.shape, np.float32)
    return np.round(255 * np.clip(visible, 0, 1)).astype(np.uint8)


def _car_lights(car: Car, ground: Ground, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the small head or tail lights of a car at night [h, w, 3]."""
    tint = np.float32([1.0, 0.95, 0.8] if car.oncoming else [0.9, 0.08, 0.05])
    light = sum(
        np.exp(
            -((np.hypot(y - lamp_y, x - lamp_x) / (0.14 * car.height_px(ground))) ** 2)
        )
        for lamp_y, lamp_x in car.lamps(ground)
    )
    return light[..., None] * tint


def _bloom(car: Car, ground: Ground, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns headlights that saturate the sensor around them [h, w]."""
    size = 0.42 * car.height_px(ground)
    light = 0.0
    for lamp_y, lamp_x in car.lamps(ground):
        dy, dx = (y - lamp_y) / size, (x - lamp_x) / size
        squared = dy**2 + dx**2
        streak = np.exp(-np.abs(dx) / 3 - (dy / 0.12) ** 2)
        light = light + 2.2 * np.exp(-squared) + 0.2 / (1 + 0.3 * squared) + streak
    return light


def _sense_heat(
    temperature: np.ndarray, rng: np.random.Generator, scene: str
) -> np.ndarray:
    """Returns what an infrared camera makes of `temperature`, float32 [h, w]."""
    height, width = temperature.shape
    infrared = temperature
    if scene == "fog":
        infrared = 0.85 * infrared + 0.06
    infrared = blur(infrared, 0.8)
    infrared = infrared + 0.015 * fractal_noise(rng, height, width, num_octaves=2)
    infrared = infrared + 0.008 * rng.standard_normal(infrared.shape, np.float32)
    return np.clip(infrared, 0, 1).astype(np.float32)
