"""What is said of a scene is said in one way only, and what is held out of training is held out."""

import itertools
from collections import Counter
from random import Random

import pytest

from systems.pixel_llm.data.shapes_grammar import (
    BACKGROUNDS,
    COLOURS,
    OUTLINES,
    PLACES,
    SHAPES,
    SIZES,
    UNSEEN_PAIRS,
    Scene,
    ShapeObject,
    draw_scene,
    one_object_scenes,
    split_of,
)

ONE_OBJECT_SCENES = list(one_object_scenes())


def scenes(split: str, count: int, seed: int = 0) -> list[Scene]:
    random = Random(seed)
    return [draw_scene(split, random) for _ in range(count)]


def attributes(scene: Scene) -> dict[str, str | None]:
    (thing,) = scene.objects
    return {**vars(thing), "background": scene.background, "place": scene.place}


def attribute_pairs(scene: Scene) -> list[tuple]:
    return list(itertools.combinations(sorted(attributes(scene).items()), 2))


def pairs_of(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in scene.objects}


def test_captions_read_as_english():
    square = ShapeObject("red", "square", "small", None, None)
    triangle = ShapeObject("green", "triangle", "large", "black", "upward")
    assert Scene((square,), "white", place="centre").caption == "A small red square in the centre on a white background"
    assert (
        Scene((triangle, square), "gray", relation="to the left of").caption
        == "A large green triangle pointing upward with black outline to the left of a small red square "
        "on a gray background"
    )
    assert Scene((square, triangle), "cyan", relation="above").caption == (
        "A small red square above a large green triangle pointing upward with black outline on a cyan background"
    )


def test_there_is_enough_to_say():
    assert (len(COLOURS), len(SHAPES), len(SIZES), len(PLACES)) >= (6, 5, 2, 5)
    assert len(BACKGROUNDS) >= 4
    assert len(OUTLINES) >= 3
    assert not set(COLOURS) & set(BACKGROUNDS)


def test_different_scenes_never_share_a_caption():
    assert len({scene.caption for scene in ONE_OBJECT_SCENES}) == len(set(ONE_OBJECT_SCENES)) == len(ONE_OBJECT_SCENES)
    drawn = set(scenes("train", 4000) + scenes("two", 2000))
    assert len({scene.caption for scene in drawn}) == len(drawn)


def test_an_outline_is_never_of_the_background_s_colour():
    for scene in ONE_OBJECT_SCENES + scenes("two", 500):
        assert scene.background not in [thing.outline for thing in scene.objects]


def test_a_fifth_or_more_of_all_combinations_is_held_out():
    splits = Counter(split_of(scene) for scene in ONE_OBJECT_SCENES)
    assert set(splits) == {"train", "combinations", "pairs"}
    assert splits["combinations"] >= 0.2 * len(ONE_OBJECT_SCENES)
    assert splits["train"] >= 0.5 * len(ONE_OBJECT_SCENES)


def test_every_pair_of_attributes_is_seen_in_training_except_those_kept_back_whole():
    training = [scene for scene in ONE_OBJECT_SCENES if split_of(scene) == "train"]
    seen = {pair for scene in training for pair in attribute_pairs(scene)}
    possible = {pair for scene in ONE_OBJECT_SCENES for pair in attribute_pairs(scene)}
    unseen = {(("colour", colour), ("shape", shape)) for colour, shape in UNSEEN_PAIRS}
    assert possible - seen == unseen


def test_each_colour_and_shape_of_an_unseen_pair_is_seen_with_others():
    seen = {pair for scene in ONE_OBJECT_SCENES if split_of(scene) == "train" for pair in pairs_of(scene)}
    for colour, shape in UNSEEN_PAIRS:
        assert sum(pair[0] == colour for pair in seen) >= len(SHAPES) - 1
        assert sum(pair[1] == shape for pair in seen) >= len(COLOURS) - 1


@pytest.mark.parametrize(("split", "objects"), [("combinations", 1), ("two", 2), ("pairs", 1)])
def test_held_out_scenes_belong_to_their_split(split, objects):
    drawn = scenes(split, 500)
    assert {split_of(scene) for scene in drawn} == {split}
    assert {len(scene.objects) for scene in drawn} == {objects}
    for scene in drawn:
        unseen = pairs_of(scene) & set(UNSEEN_PAIRS)
        assert bool(unseen) == (split == "pairs")


def test_no_held_out_caption_is_a_training_caption():
    training = {scene.caption for scene in scenes("train", 20_000)}
    for split in ("combinations", "two", "pairs"):
        assert training.isdisjoint(scene.caption for scene in scenes(split, 3000, seed=1))
    for colour, shape in UNSEEN_PAIRS:
        assert not any(f"{colour} {shape}" in caption for caption in training)


def test_training_shows_everything_alone_and_in_twos():
    drawn = scenes("train", 4000)
    assert 0.25 < sum(len(scene.objects) == 2 for scene in drawn) / len(drawn) < 0.35
    words = {word for scene in drawn for word in scene.caption.split()}
    assert words == {word for scene in ONE_OBJECT_SCENES + scenes("two", 500) for word in scene.caption.split()}
    assert {scene.relation for scene in drawn} == {None, "to the left of", "above"}


def test_two_objects_always_differ_in_colour_or_shape():
    assert all(len(pairs_of(scene)) == 2 for scene in scenes("two", 2000))


def test_an_unseen_pair_beside_another_object_belongs_to_no_split():
    star, circle = (ShapeObject(*words, "small", None, None) for words in (("red", "star"), ("blue", "circle")))
    for objects in ((star, circle), (circle, star)):
        assert split_of(Scene(objects, "white", relation="above")) is None
