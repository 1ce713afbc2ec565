"""A scene's pixels: anti-aliased, each picture a little different, every attribute plain to see at 64 pixels.

`draw_scene_pixels` lays the background, then each object; an object is a signed distance (pixels to its edge, negative
inside) taken over its own box only, and its outline is the band just outside the edge. The jitter of place, size, tilt
and colour stays well within what the words allow: no two objects touch and nothing leaves the picture.
"""

import math
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.data.shapes_grammar import Scene, ShapeObject

__all__ = ["draw_scene_pixels"]

Floats: TypeAlias = NDArray[np.float32]

# Red, green, blue in 0..1. Object colours and backgrounds lie far enough apart for the jitter below.
COLOUR_RGB = {
    "red": (0.86, 0.13, 0.13),
    "orange": (0.97, 0.52, 0.08),
    "yellow": (0.96, 0.84, 0.10),
    "green": (0.12, 0.60, 0.22),
    "blue": (0.13, 0.28, 0.86),
    "purple": (0.50, 0.16, 0.68),
    "pink": (0.98, 0.52, 0.74),
    "brown": (0.46, 0.27, 0.12),
}
BACKGROUND_RGB = {
    "white": (0.98, 0.98, 0.98),
    "gray": (0.55, 0.55, 0.55),
    "black": (0.04, 0.04, 0.04),
    "cyan": (0.45, 0.84, 0.90),
}
OUTLINE_RGB = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0)}
BRIGHTNESS_JITTER = 0.06
"""An object's or background's colour is multiplied by 1 plus or minus this, ..."""
CHANNEL_JITTER = 0.015
"""... then each channel is moved by up to this."""

# Lengths below are for a picture of 64 x 64 and grow with it.
REFERENCE_SIZE = 64
RADII = {"small": (5.8, 6.6), "large": (9.6, 10.4)}
"""The least and greatest radius of the circle; the other shapes are as large to the eye."""
REACH = 1.25
"""The farthest that any shape reaches from its middle, in radii."""
OUTLINE_WIDTH = 1.75
CENTRES: dict[str, tuple[tuple[float, float], ...]] = {
    "centre": ((32.0, 32.0),),
    "top left": ((17.5, 17.5),),
    "top right": ((46.5, 17.5),),
    "bottom left": ((17.5, 46.5),),
    "bottom right": ((46.5, 46.5),),
    "to the left of": ((16.5, 32.0), (47.5, 32.0)),
    "above": ((32.0, 16.5), (32.0, 47.5)),
}
"""Place or relation -> (x, y) of each object's middle."""
PLACE_JITTER = (1.5, 1.5)
RELATION_JITTER = {"to the left of": (0.5, 3.0), "above": (3.0, 0.5)}
"""Little along the line that joins the two, so that they never touch; more across it."""

MAX_TILT = math.radians(6)
DIRECTION_ANGLES = {None: 0.0, "upward": 0.0, "right": math.pi / 2, "downward": math.pi, "left": -math.pi / 2}
"""Clockwise turn of a triangle that points upward."""


def draw_scene_pixels(scene: Scene, size: int, random: Random) -> Floats:
    """`[3, size, size]` float32 in 0..1: `scene`, with the jitter that `random` gives."""
    pixels = np.empty((3, size, size), np.float32)
    pixels[:] = _jittered(BACKGROUND_RGB[scene.background], random)
    where = scene.place or scene.relation
    assert where is not None
    centres, (jitter_x, jitter_y) = CENTRES[where], RELATION_JITTER.get(where, PLACE_JITTER)
    for thing, (x, y) in zip(scene.objects, centres, strict=True):
        _draw_object(pixels, thing, (x + _within(jitter_x, random), y + _within(jitter_y, random)), random)
    return pixels


def _draw_object(pixels: Floats, thing: ShapeObject, centre: tuple[float, float], random: Random) -> None:
    scale = pixels.shape[-1] / REFERENCE_SIZE
    least, greatest = RADII[thing.size]
    radius = scale * (least + (greatest - least) * random.random())
    outline_width = scale * OUTLINE_WIDTH
    reach = REACH * radius + outline_width + 1
    rows, y = _span(scale * centre[1], reach, pixels.shape[-1])
    columns, x = _span(scale * centre[0], reach, pixels.shape[-1])
    y = y[:, None]
    angle = DIRECTION_ANGLES[thing.direction] + _within(MAX_TILT, random)
    cosine, sine = math.cos(angle), math.sin(angle)
    distance = SIGNED_DISTANCES[thing.shape](cosine * x + sine * y, cosine * y - sine * x, radius)
    box = pixels[:, rows, columns]
    if thing.outline is not None:
        # Under the fill, so that the two share the edge's pixels without a seam.
        _paint(box, distance - outline_width, np.array(OUTLINE_RGB[thing.outline], np.float32).reshape(3, 1, 1))
    _paint(box, distance, _jittered(COLOUR_RGB[thing.colour], random))


def _span(centre: float, reach: float, size: int) -> tuple[slice, Floats]:
    """The pixels within `reach` of `centre` along one axis, and where their middles lie from it."""
    start, stop = max(0, int(centre - reach)), min(size, int(centre + reach) + 1)
    return slice(start, stop), np.arange(start + 0.5 - centre, stop - centre, dtype=np.float32)


def _paint(box: Floats, distance: Floats, colour: Floats) -> None:
    """Lay `colour` `[3, 1, 1]` over `box` `[3, h, w]` where `distance` `[h, w]` is negative, half where it is 0."""
    coverage = np.clip(0.5 - distance, 0.0, 1.0)
    box += coverage * (colour - box)


def _jittered(rgb: tuple[float, float, float], random: Random) -> Floats:
    """`rgb` as `[3, 1, 1]`, a little brighter or darker and a little off."""
    brightness = 1 + _within(BRIGHTNESS_JITTER, random)
    channels = [min(1.0, max(0.0, brightness * value + _within(CHANNEL_JITTER, random))) for value in rgb]
    return np.array(channels, np.float32).reshape(3, 1, 1)


def _within(bound: float, random: Random) -> float:
    return bound * (2 * random.random() - 1)


# Signed distances: `x` grows to the right and `y` downward from the object's middle; exact outside and at the edge.


def _circle(x: Floats, y: Floats, radius: float) -> Floats:
    distance: Floats = np.sqrt(x * x + y * y) - np.float32(radius)
    return distance


def _square(x: Floats, y: Floats, radius: float) -> Floats:
    return _rectangle(np.abs(x), np.abs(y), 0.88 * radius, 0.88 * radius)


def _cross(x: Floats, y: Floats, radius: float) -> Floats:
    across, along = np.abs(x), np.abs(y)
    # Folded onto one arm, the one that lies along the greater coordinate.
    return _rectangle(np.maximum(across, along), np.minimum(across, along), 1.12 * radius, 0.4 * radius)


def _diamond(x: Floats, y: Floats, radius: float) -> Floats:
    # Taller than wide: not to be taken for a square on its corner.
    return _edge(np.abs(x), np.abs(y), (0.84 * radius, 0.0), (0.0, 1.22 * radius))


def _triangle(x: Floats, y: Floats, radius: float) -> Floats:
    return _star_polygon(x, y, points=3, outer=1.22 * radius, inner=0.61 * radius)


def _star(x: Floats, y: Floats, radius: float) -> Floats:
    return _star_polygon(x, y, points=5, outer=REACH * radius, inner=0.52 * radius)


def _rectangle(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    """Of points folded into the quarter where both coordinates are 0 or more."""
    beyond_x, beyond_y = x - half_width, y - half_height
    outside_x, outside_y = np.maximum(beyond_x, 0), np.maximum(beyond_y, 0)
    inside = np.minimum(np.maximum(beyond_x, beyond_y), 0)
    return np.sqrt(outside_x * outside_x + outside_y * outside_y) + inside


def _star_polygon(x: Floats, y: Floats, *, points: int, outer: float, inner: float) -> Floats:
    """One tip straight up; corners by turns `outer` and `inner` from the middle (inner = outer / 2: a triangle)."""
    sector = 2 * math.pi / points
    turn = np.arctan2(x, -y)
    # Every sector folded onto the right half of the topmost one, which holds a single edge.
    turn = np.abs(turn - sector * np.rint(turn / sector))
    length = np.sqrt(x * x + y * y)
    corner = (inner * math.cos(sector / 2), inner * math.sin(sector / 2))
    return _edge(length * np.cos(turn), length * np.sin(turn), (outer, 0.0), corner)


def _edge(x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float]) -> Floats:
    """From the segment `start`-`end`; negative on its left, where the object's middle lies."""
    edge_x, edge_y = end[0] - start[0], end[1] - start[1]
    from_x, from_y = x - start[0], y - start[1]
    part = np.clip((from_x * edge_x + from_y * edge_y) / (edge_x**2 + edge_y**2), 0.0, 1.0)
    off_x, off_y = from_x - part * edge_x, from_y - part * edge_y
    return np.copysign(np.sqrt(off_x * off_x + off_y * off_y), from_x * edge_y - from_y * edge_x)


SIGNED_DISTANCES: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "square": _square,
    "circle": _circle,
    "triangle": _triangle,
    "star": _star,
    "diamond": _diamond,
    "cross": _cross,
}
