"""What a mirror does to captions: sides swapped where they are plainly sides, and the mirror refused elsewhere."""

from pathlib import Path

import pytest

from systems.pixel_llm.data.mirroring import mirrored_caption, survives_mirror
from systems.pixel_llm.data.samples import read_samples

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

PAIRS = [
    ("a dog on the left", "a dog on the right"),
    ("A dog stands to his left while a cat sits .", "A dog stands to his right while a cat sits ."),
    ("On the left, a cat; on the right, a dog.", "On the right, a cat; on the left, a dog."),
    ("The man on the Left is tall", "The man on the Right is tall"),
    ("TWO DOGS ON THE LEFT".lower().replace("left", "LEFT"), "two dogs on the RIGHT"),
    ("holding a cup in her left hand and a phone in her right hand", None),
    ("a bird at top left of the frame", "a bird at top right of the frame"),
    ("a tree in the upper-left corner", "a tree in the upper-right corner"),
    ("grass on left and pavement on right .", "grass on right and pavement on left ."),
    ("index pointing left: light skin tone", "index pointing right: light skin tone"),
    ("a woman looking right , a crowd behind", "a woman looking left , a crowd behind"),
    ("right-facing fist", "left-facing fist"),
    ("leftwards hand", "rightwards hand"),
    ("the leftmost bottle of three", "the rightmost bottle of three"),
    ("a left-handed pitcher", "a right-handed pitcher"),
    ("a car seen from left to right", "a car seen from right to left"),
    ("left-right arrow", "right-left arrow"),
    ("arrow curving Right", "arrow curving Left"),
    ("two girls, Ann (left) and Eve (right)", "two girls, Ann (right) and Eve (left)"),
    ("licking its left front leg", "licking its right front leg"),
    ("a bright copyright on an upright piano by a cleft", "a bright copyright on an upright piano by a cleft"),
    ("leftover cake", "leftover cake"),
    ("a number of people on the right", "a number of people on the left"),
    ("a man rides an ATV", "a man rides an ATV"),
    ("the dog's ball and the dogs' bowl", "the dog's ball and the dogs' bowl"),
]


@pytest.mark.parametrize(("caption", "expected"), PAIRS)
def test_sides_are_swapped_as_whole_words_in_their_case(caption: str, expected: str | None) -> None:
    assert survives_mirror(caption)
    mirrored = mirrored_caption(caption)
    assert mirrored == (expected or "holding a cup in her right hand and a phone in her left hand")
    assert survives_mirror(mirrored), "what a mirror made can be mirrored back"
    assert mirrored_caption(mirrored) == caption


@pytest.mark.parametrize(
    "caption",
    [
        "he is right now in the water", "all right", "that looks right .", "a man is right behind a cow",
        "a bench right next to a tree", "two horses are right alongside each other", "a giraffe staring right into it",
        "a dog running right toward the camera", "looking right at the camera", "a kite right above the trees",
        "some food left over", "a plane that has left behind a trail", "the man has left", "a laptop left open",
        "one slice left", "cake left on a plate", "somebody left a bag", "skiers have left a trail",
        "looking in the right direction", "the right size", "the right way to go", "in the right place",
        "expressing their right to protest", "a driver who has the right of way", "to the right of way sign",
        "the man on the left left the room", "a woman on the left and a plate left on the table",
        "they have left hand prints", "they left side by side",
        "a bag left to the right of the door", "a right hand man", "shoes left side up",
        "left luggage", "the center left one speaking", "a right-angled corner", "right wing protesters",
    ],
)  # fmt: skip
def test_where_the_sense_is_doubtful_the_mirror_is_refused(caption: str) -> None:
    assert not survives_mirror(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "a bus number 7", "2 dogs", 'a shirt with "hello" on it', "a “FREE” button", "a shirt that says hello",
        "the words 'look out' on a wall", "a stop sign", "white letters on a wall", "a banner reads welcome",
        "a man reading a newspaper", "NO ENTRY above a door", "a license plate", "graffiti on a train", "a clock tower",
        "a dog on the left of a sign", "hieroglyphs were written here", "named after a king",
        "собака слева", "左の犬", "hands turning clockwise", "the starboard bow", "a lefty at the plate",
        "marked L and R",
    ],
)  # fmt: skip
def test_where_a_caption_may_quote_what_is_written_or_is_not_understood_the_mirror_is_refused(caption: str) -> None:
    assert not survives_mirror(caption)


@pytest.mark.parametrize(
    ("folder", "says", "swapped", "never"),
    [("flickr8k_part", 67, 53, 246), ("emoji_noto", 47, 45, 106), ("lora_mickey1928", 0, 0, 4)],
)
def test_on_real_captions_the_counts_are_those_that_were_read_through(
    folder: str, says: int, swapped: int, never: int
) -> None:
    if not (SHARED_DATA / folder).is_dir():
        pytest.skip(f"no {SHARED_DATA / folder}")
    of_pictures = [sample.captions for sample in read_samples(SHARED_DATA / folder, "auto")]
    sided = [
        caption
        for captions in of_pictures
        for caption in captions
        if any(word.startswith(("left", "right")) for word in caption.lower().replace("-", " ").split())
    ]
    assert len(sided) == says
    assert sum(survives_mirror(caption) for caption in sided) == swapped
    assert sum(not all(map(survives_mirror, captions)) for captions in of_pictures) == never
