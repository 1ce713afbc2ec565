"""Near-duplicates: what was scaled or saved anew is found, what merely resembles is not, and no pair is missed."""

import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from systems.pixel_llm.data.near_duplicates import (
    MAX_DISTANCE,
    Fingerprint,
    fingerprint,
    groups_of_near_duplicates,
)

GRAY = bytes([128] * 48)


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft blotches of colour, as different from seed to seed as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def saved_anew(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_scaled_and_saved_anew_is_a_near_duplicate(seed):
    picture = photograph(seed)
    smaller = saved_anew(picture.resize((97, 71)), quality=40)
    others = [photograph(100 + place) for place in range(20)]
    prints = [fingerprint(each) for each in (picture, *others, smaller)]
    assert groups_of_near_duplicates(prints) == [[0, 21]]


def test_the_same_drawing_in_another_colour_is_another_picture():
    drawing = np.zeros((64, 64, 3), np.uint8)
    drawing[16:48, 16:48] = (200, 30, 30)
    red, blue = Image.fromarray(drawing), Image.fromarray(drawing[:, :, ::-1].copy())
    white, black = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "black")
    assert fingerprint(white).hash == fingerprint(black).hash == 0  # the colours alone tell these apart
    assert groups_of_near_duplicates([fingerprint(each) for each in (red, blue, white, black)]) == []


def test_groups_are_those_of_comparing_all_with_all():
    draw = random.Random(0)
    hashes = [draw.getrandbits(64) for _ in range(150)]
    for each in list(hashes):  # a neighbour each, at a distance of 0 to 8
        for bit in draw.sample(range(64), draw.randrange(9)):
            each ^= 1 << bit
        hashes.append(each)
    draw.shuffle(hashes)
    expected = {frozenset([place]) for place in range(len(hashes))}
    for first, second in itertools.combinations(range(len(hashes)), 2):
        if (hashes[first] ^ hashes[second]).bit_count() <= MAX_DISTANCE:
            joined = [group for group in expected if first in group or second in group]
            expected = (expected - set(joined)) | {frozenset().union(*joined)}
    found = groups_of_near_duplicates([Fingerprint(each, GRAY) for each in hashes])
    assert {frozenset(group) for group in found} == {group for group in expected if len(group) > 1}
    assert len(found) > 50


def test_neighbours_of_neighbours_are_one_group():
    chain = [Fingerprint(bits, GRAY) for bits in (0, 0b1111, 0b11111111)]
    assert groups_of_near_duplicates([chain[0], chain[2], chain[1], chain[0]]) == [[0, 1, 2, 3]]


def test_many_pictures_of_one_scene_are_one_group():
    draw = np.random.default_rng(0)
    scene = [Fingerprint(77, row.tobytes()) for row in draw.integers(100, 108, (5000, 48), dtype=np.uint8)]
    other = Fingerprint(~77 & (2**64 - 1), GRAY)
    assert groups_of_near_duplicates([*scene, other]) == [list(range(5000))]


def test_nothing_has_no_groups():
    assert groups_of_near_duplicates([]) == []
    assert groups_of_near_duplicates([Fingerprint(1, GRAY)]) == []


@pytest.mark.parametrize(
    ("picture", "is_one_colour"), [(Image.new("RGB", (9, 9), "red"), True), (photograph(1), False)]
)
def test_a_picture_of_one_colour_is_known(picture, is_one_colour):
    assert fingerprint(picture).is_one_colour is is_one_colour
