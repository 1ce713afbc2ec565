"""What the synthetic pictures show, how it is said, and which scenes the model may train on; no pixels here.

The attributes come first, then `Scene`, whose caption is a function of its attributes alone (two different scenes never
share one, so exact match is well defined), then the splits: `split_of` gives a scene its one split, by the colour-shape
pairs kept back and by a hash of the caption, and `draw_scene` draws a scene of a split. `one_object_scenes` lists all
scenes of one object, for tests and for counting.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from systems.pixel_llm.seeding import derive_seed

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "DIRECTIONS",
    "OUTLINES",
    "PLACES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "UNSEEN_PAIRS",
    "Scene",
    "ShapeObject",
    "draw_scene",
    "one_object_scenes",
    "split_of",
]

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SHAPES = ("square", "circle", "triangle", "star", "diamond", "cross")
SIZES = ("small", "large")
PLACES = ("centre", "top left", "top right", "bottom left", "bottom right")
BACKGROUNDS = ("white", "gray", "black", "cyan")
"""None of them is an object's colour, so an object never vanishes."""
OUTLINES = (None, "black", "white")
DIRECTIONS = ("upward", "downward", "left", "right")
"""Where a triangle points; the other shapes have no direction."""
RELATIONS = ("to the left of", "above")
"""Where the first object of two stands, seen from the second."""

SPLITS = ("train", "combinations", "two", "pairs")
UNSEEN_PAIRS = (("red", "star"), ("yellow", "circle"), ("green", "diamond"), ("purple", "square"))
"""The (colour, shape) pairs of the split "pairs": in no training picture, alone or beside another object."""
SEEN_PAIRS = tuple(pair for pair in itertools.product(COLOURS, SHAPES) if pair not in UNSEEN_PAIRS)

HELD_OUT_SHARE = 0.25
"""Of all combinations, the part that the hash keeps out of training."""
TWO_OBJECT_SHARE = 0.3
"""Of the training pictures."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class ShapeObject:
    """One object: everything that is said of it, except where it stands."""

    colour: str
    shape: str
    size: str
    outline: str | None
    direction: str | None
    """None for every shape but the triangle."""

    @property
    def words(self) -> str:
        """What a caption says of the object: "large green triangle pointing upward with black outline"."""
        direction = f" pointing {self.direction}" if self.direction else ""
        outline = f" with {self.outline} outline" if self.outline else ""
        return f"{self.size} {self.colour} {self.shape}{direction}{outline}"


@dataclass(frozen=True)
class Scene:
    """What one picture shows: one object at a place, or two objects in a relation."""

    objects: tuple[ShapeObject, ...]
    background: str
    place: str | None = None
    """Of the object of a one-object scene."""
    relation: str | None = None
    """Of the first object of two to the second."""

    @property
    def caption(self) -> str:
        """The one caption that is right: "A small red square in the centre on a white background"."""
        first, *others = self.objects
        where = f"{self.relation} a {others[0].words}" if others else f"in the {self.place}"
        return f"A {first.words} {where} on a {self.background} background"


def split_of(scene: Scene) -> str | None:
    """The one split that `scene` belongs to; None for two objects of which one has an unseen colour-shape pair."""
    alone = len(scene.objects) == 1
    if any((thing.colour, thing.shape) in UNSEEN_PAIRS for thing in scene.objects):
        return "pairs" if alone else None
    # A hash of the whole caption: the same on every machine, whatever the data set's seed.
    if derive_seed("shapes-held-out:" + scene.caption) < HELD_OUT_SHARE * 2**63:
        return "combinations" if alone else "two"
    return "train"


def draw_scene(split: str, random: Random) -> Scene:
    """A scene of `split`, drawn from `random`: any such scene can come, shapes and colours about equally often."""
    two = split == "two" or (split == "train" and random.random() < TWO_OBJECT_SHARE)
    while True:
        scene = _draw_two_objects(random) if two else _draw_one_object(split, random)
        if split_of(scene) == split:
            return scene


def _draw_one_object(split: str, random: Random) -> Scene:
    background = _pick(BACKGROUNDS, random)
    pair = _pick(UNSEEN_PAIRS if split == "pairs" else SEEN_PAIRS, random)
    return Scene((_draw_object(pair, background, random),), background, place=_pick(PLACES, random))


def _draw_two_objects(random: Random) -> Scene:
    background = _pick(BACKGROUNDS, random)
    first = second = _pick(SEEN_PAIRS, random)
    while second == first:
        second = _pick(SEEN_PAIRS, random)
    objects = (_draw_object(first, background, random), _draw_object(second, background, random))
    return Scene(objects, background, relation=_pick(RELATIONS, random))


def _draw_object(pair: tuple[str, str], background: str, random: Random) -> ShapeObject:
    colour, shape = pair
    size = _pick(SIZES, random)
    outline = _pick(_visible_outlines(background), random)
    return ShapeObject(colour, shape, size, outline, _pick(_directions(shape), random))


def one_object_scenes() -> Iterator[Scene]:
    """Every scene of one object, of all splits."""
    for colour, shape, size, place, background in itertools.product(COLOURS, SHAPES, SIZES, PLACES, BACKGROUNDS):
        for outline, direction in itertools.product(_visible_outlines(background), _directions(shape)):
            yield Scene((ShapeObject(colour, shape, size, outline, direction),), background, place=place)


def _visible_outlines(background: str) -> tuple[str | None, ...]:
    """The outlines that can be told from `background`: a white one on white could not be."""
    return tuple(outline for outline in OUTLINES if outline != background)


def _directions(shape: str) -> tuple[str | None, ...]:
    return DIRECTIONS if shape == "triangle" else (None,)


def _pick(values: Sequence[Value], random: Random) -> Value:
    """One of `values`; by `Random.random` alone, whose numbers Python promises to keep from version to version."""
    return values[int(random.random() * len(values))]
