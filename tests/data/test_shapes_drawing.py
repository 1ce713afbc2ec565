"""Every word of a caption can be read off the pixels."""

import itertools
import math
from random import Random

import numpy as np
import pytest

from systems.pixel_llm.data.shapes_drawing import (
    BACKGROUND_RGB,
    CENTRES,
    COLOUR_RGB,
    OUTLINE_RGB,
    SIGNED_DISTANCES,
    draw_scene_pixels,
)
from systems.pixel_llm.data.shapes_grammar import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    PLACES,
    SHAPES,
    Scene,
    ShapeObject,
    draw_scene,
)


def draw(seed=0, *, pixels=64, background="gray", place="centre", **attributes):
    known = {"colour": "red", "shape": "circle", "size": "large", "outline": None, "direction": None}
    scene = Scene((ShapeObject(**(known | attributes)),), background, place=place)
    return draw_scene_pixels(scene, pixels, Random(seed))


def foreground(pixels):
    """[H, W]: where a picture is not its background."""
    return np.abs(pixels - pixels[:, :1, :1]).max(axis=0) > 0.02


def middle(mask):
    """(x, y): the centre of mass."""
    y, x = np.nonzero(mask)
    return x.mean() + 0.5, y.mean() + 0.5


def nearest_name(rgb, names):
    return min(names, key=lambda name: math.dist(rgb, names[name]))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_signed_distance_encloses_the_shape_s_area_and_grows_by_one_a_pixel(shape):
    y, x = np.mgrid[-15.95:16:0.1, -15.95:16:0.1].astype(np.float32)
    distance = SIGNED_DISTANCES[shape](x, y, 10.0)
    areas = {
        "circle": math.pi * 10**2,
        "square": 17.6**2,
        "triangle": 3 * math.sqrt(3) / 4 * 12.2**2,
        "star": 5 * 12.5 * 5.2 * math.sin(math.pi / 5),
        "diamond": 2 * 8.4 * 12.2,
        "cross": 2 * 22.4 * 8 - 8**2,
    }
    assert (distance < 0).sum() * 0.01 == pytest.approx(areas[shape], rel=0.01)
    slope = np.hypot(*np.gradient(distance, 0.1))
    outside = (distance > 0.2) & (distance < 3)
    assert np.median(slope[outside]) == pytest.approx(1, abs=0.01)
    assert np.abs(slope[outside] - 1).max() < 0.35  # less only across the folds


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_object_and_background_keep_their_colour(colour, background):
    names = COLOUR_RGB | BACKGROUND_RGB
    for seed, shape in enumerate(SHAPES):
        pixels = draw(seed, colour=colour, shape=shape, size="small", background=background)
        assert nearest_name(pixels[:, 32, 32], names) == colour
        assert nearest_name(pixels[:, 0, 0], names) == background


@pytest.mark.parametrize("place", PLACES)
def test_the_object_stands_at_its_place(place):
    for seed, shape in enumerate(SHAPES):
        mask = foreground(draw(seed, shape=shape, place=place, size="small"))
        assert math.dist(middle(mask), CENTRES[place][0]) < 3
        assert min(PLACES, key=lambda name: math.dist(middle(mask), CENTRES[name][0])) == place


@pytest.mark.parametrize("shape", SHAPES)
def test_every_large_one_is_clearly_larger_than_every_small_one(shape):
    # Widths, outline or none: an outlined small one must not pass for a large one.
    widths = {
        size: [
            foreground(draw(seed, shape=shape, size=size, outline=outline)).any(axis=0).sum()
            for seed in range(20)
            for outline in (None, "black")
        ]
        for size in ("small", "large")
    }
    assert max(widths["small"]) < min(widths["large"])


@pytest.mark.parametrize("outline", ["black", "white"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_rings_the_object_and_leaves_its_colour_inside(shape, outline):
    plain = draw(3, shape=shape, size="small")
    outlined = draw(3, shape=shape, size="small", outline=outline)
    ring = np.abs(outlined - np.reshape(OUTLINE_RGB[outline], (3, 1, 1))).max(axis=0) < 0.1
    assert ring.sum() > 25
    assert not (ring & (np.abs(plain - plain[:, 32:33, 32:33]).max(axis=0) < 0.02)).any()
    assert nearest_name(outlined[:, 32, 32], COLOUR_RGB | OUTLINE_RGB) == "red"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_triangle_points_where_it_is_said_to(direction):
    for seed in range(5):
        mask = foreground(draw(seed, shape="triangle", direction=direction))
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        x, y = middle(mask)
        # The mass lies away from the tip.
        right, down = x - (columns[0] + columns[-1] + 1) / 2, y - (rows[0] + rows[-1] + 1) / 2
        pull = {"upward": down, "downward": -down, "left": right, "right": -right}
        assert max(pull, key=lambda name: pull[name]) == direction


def test_two_objects_stand_apart_and_in_their_relation():
    random = Random(0)
    for _ in range(300):
        scene = draw_scene("two", random)
        pixels = draw_scene_pixels(scene, 64, random)
        if scene.relation == "above":
            pixels = pixels.transpose(0, 2, 1)
        mask = foreground(pixels)
        assert not mask[:, 24:40].any(axis=0).all()
        for thing, left in zip(scene.objects, (0, 32), strict=True):
            x, y = (int(value) for value in middle(mask[:, left : left + 32]))
            assert nearest_name(pixels[:, y, left + x], COLOUR_RGB) == thing.colour


def test_nothing_leaves_the_picture():
    random = Random(0)
    for _ in range(500):
        mask = foreground(draw_scene_pixels(draw_scene("train", random), 64, random))
        assert not np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()


def test_edges_are_anti_aliased_and_values_stay_in_range():
    pixels = draw(shape="circle", colour="brown", background="white")
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert len(np.unique(pixels[0].round(3))) > 20


def test_the_same_scene_is_never_drawn_twice_alike():
    pictures = [draw(seed) for seed in range(10)]
    assert all(np.abs(one - other).max() > 0.1 for one, other in itertools.pairwise(pictures))


@pytest.mark.parametrize("size", [32, 96, 224])
def test_a_picture_looks_the_same_at_every_size(size):
    reference, scaled = draw(1, shape="star").mean(axis=(1, 2)), draw(1, pixels=size, shape="star").mean(axis=(1, 2))
    np.testing.assert_allclose(scaled, reference, atol=0.003)
