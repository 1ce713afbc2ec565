"""The contact sheet and the curve: real PNGs, whatever the captions are, laid out so that nothing overlaps."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from systems.pixel_llm.evaluation.figures import CaptionedPicture, contact_sheet, training_curve

GREEN = (0x15, 0x80, 0x3D)
SIDE, GAP, MARGIN = 256, 24, 28


def picture(caption, *references, size=(64, 64), colour=(200, 30, 200), mode="RGB"):
    image = Image.new("RGB", size, colour).convert(mode)
    return CaptionedPicture(image=image, caption=caption, references=references)


def sheet(tmp_path, pictures, **settings):
    """The contact sheet as pixels [H, W, 3]."""
    contact_sheet(pictures, tmp_path / "sheet.png", **({"title": "A title"} | settings))
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def is_drawn(pixels):
    """Where something is drawn on the white ground."""
    return (pixels < 250).any(axis=-1)


def has_colour(pixels, colour):
    return bool((np.abs(pixels - np.array(colour)).max(axis=-1) <= 2).any())


# --- the contact sheet ------------------------------------------------------------------------------------------------

CAPTIONS = [
    "a red square",
    "",
    "   ",
    "it costs $5, not $6_a^b$ \\frac{1}{2} $\\alpha$ $",
    "Straße, Ωμέγα, 猫が好き, 🦊, עברית",
    "two\nlines\r\n\tand tabs\x00\x07\u200b",
    "x" * 500,
    "word " * 200,
    "\ud800 half a character \ufffd",
]


@pytest.mark.parametrize("caption", CAPTIONS, ids=range(len(CAPTIONS)))
def test_any_caption_stays_in_its_cell(tmp_path, caption):
    pixels = sheet(tmp_path, [picture(caption, caption + "!"), picture("short", "other")], title="")
    assert pixels.shape[1] == 2 * MARGIN + 2 * SIDE + GAP
    drawn = is_drawn(pixels)
    # The margins and the gap between the two columns are empty: no text runs out of its cell.
    assert not drawn[:, :MARGIN].any()
    assert not drawn[:, MARGIN + SIDE : MARGIN + SIDE + GAP].any()
    assert not drawn[:, -MARGIN:].any()
    assert not drawn[:MARGIN].any()
    assert not drawn[-MARGIN + 4 :].any()
    # Both cells have text under their picture.
    below = drawn[MARGIN + SIDE + 4 :]
    assert below[:, MARGIN : MARGIN + SIDE].any()
    assert below[:, MARGIN + SIDE + GAP :].any()


@pytest.mark.parametrize("title", ["", "plain", "costs $5 $", "猫 🦊", "a title of many words " * 30, "x" * 300])
def test_any_title_stays_on_the_sheet(tmp_path, title):
    drawn = is_drawn(sheet(tmp_path, [picture("a", "a")], title=title))
    assert not drawn[:, :MARGIN].any()
    assert not drawn[:, -MARGIN:].any()
    assert not drawn[:MARGIN].any()


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(1, 4, (1, 1)), (2, 4, (1, 2)), (4, 4, (1, 4)), (5, 4, (2, 4)), (5, 2, (3, 2))]
)
def test_as_many_columns_and_rows_as_needed(tmp_path, count, columns, shape):
    pixels = sheet(tmp_path, [picture("a", "a")] * count, columns=columns, title="")
    rows, columns = shape
    assert pixels.shape[1] == 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    purple = (np.abs(pixels - np.array([200, 30, 200])).max(axis=-1) <= 2).sum()
    assert purple == count * (SIDE - 2) ** 2  # but for the hairline round each
    assert pixels.shape[0] < 2 * MARGIN + rows * (SIDE + 60)  # no empty bands


def test_right_captions_are_green_and_others_show_the_truth(tmp_path):
    right = sheet(tmp_path, [picture(" a red square ", "something else", "a red square")])
    wrong = sheet(tmp_path, [picture("a red square", "a blue square")])
    assert has_colour(right, GREEN)
    assert not has_colour(wrong, GREEN)
    assert len(wrong) > len(right) + 10  # a line more


def test_a_picture_nobody_captioned_shows_what_the_model_says(tmp_path):
    with_truth = sheet(tmp_path, [picture("a red square", "b")])
    without = sheet(tmp_path, [picture("a red square")])
    assert len(without) < len(with_truth)
    assert not has_colour(without, GREEN)


def test_small_pictures_are_enlarged_without_blur(tmp_path):
    """Of a chequered board of single pixels only its two colours remain."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shown = CaptionedPicture(image=Image.fromarray(board), caption="a", references=("a",))
    pixels = sheet(tmp_path, [shown], title="")[MARGIN + 1 : MARGIN + SIDE - 1, MARGIN + 1 : MARGIN + SIDE - 1]
    assert set(np.unique(pixels)) == {0, 255}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 32), (256, 128)), ((30, 90), (85, 256)), ((1000, 500), (256, 128)), ((1, 1), (256, 256)),
     ((256, 256), (256, 256)), ((1000, 1), (256, 1)), ((72, 72), (256, 256))],
)  # fmt: skip
def test_the_picture_keeps_its_proportions(tmp_path, size, expected):
    pixels = sheet(tmp_path, [picture("", size=size, colour=(0, 0, 0))], title="")
    width, height = expected
    area = is_drawn(pixels[MARGIN : MARGIN + height])
    columns = np.flatnonzero(area.all(axis=0))
    assert len(columns) == width
    assert columns[0] == MARGIN + (SIDE - width) // 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode(tmp_path, mode):
    shown = picture("a", "a") if mode == "I;16" else picture("a", "a", mode=mode)
    if mode == "I;16":
        gray = Image.fromarray(np.full((40, 40), 30_000, dtype=np.uint16))
        shown = CaptionedPicture(image=gray, caption="a", references=("a",))
    assert is_drawn(sheet(tmp_path, [shown])).any()


def test_transparent_ground_is_white(tmp_path):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    pixels = sheet(tmp_path, [CaptionedPicture(image=image, caption="a", references=("a",))], title="")
    assert (pixels[MARGIN + 1 : MARGIN + SIDE - 1, MARGIN + 1 : MARGIN + SIDE - 1] == 255).all()


@pytest.mark.parametrize(("count", "columns"), [(0, 4), (3, 0)])
def test_nothing_to_show_is_an_error(tmp_path, count, columns):
    with pytest.raises(ValueError, match=f"found {count}, {columns}"):
        contact_sheet([picture("a", "a")] * count, tmp_path / "sheet.png", title="", columns=columns)
    assert not (tmp_path / "sheet.png").exists()


# --- the curve --------------------------------------------------------------------------------------------------------

BLUE, ORANGE = (0x25, 0x63, 0xEB), (0xEA, 0x58, 0x0C)
TRAIN = [{"kind": "train", "step": step, "loss": 5 / step} for step in range(10, 200, 10)]
VALIDATION = [{"kind": "validation", "step": step, "loss": 6 / step} for step in range(50, 200, 50)]


def curve(tmp_path, records, title="A title"):
    training_curve(records, tmp_path / "curve.png", title=title)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert image.size == (1040, 585)
        return np.asarray(image.convert("RGB")).astype(int)


def near(pixels, colour):
    """How many pixels have about this colour (lines are softened, and a little transparent)."""
    return int((np.abs(pixels - np.array(colour)).max(axis=-1) < 45).sum())


@pytest.mark.parametrize(
    ("records", "has_train", "has_validation"),
    [
        ([], False, False),
        ([{"kind": "start", "step": 0}, {"kind": "end"}], False, False),
        ([{"kind": "train", "step": 10, "loss": None}], False, False),
        (TRAIN, True, False),
        (TRAIN[:1], True, False),
        (VALIDATION, False, True),
        (VALIDATION[:1], False, True),
        ([*TRAIN, *VALIDATION, {"kind": "epoch", "step": 200}], True, True),
        ([{"kind": "train", "step": 10, "loss": 0.0}, {"kind": "train", "step": 20, "loss": 0.0}], True, False),
        ([{"kind": "train", "step": 10**7 * place, "loss": 10.0**-place} for place in range(9)], True, False),
    ],
    ids=range(10),
)  # fmt: skip
def test_the_curve_shows_what_was_logged(tmp_path, records, has_train, has_validation):
    pixels = curve(tmp_path, records)
    assert is_drawn(pixels).any()
    assert (near(pixels, BLUE) > 20) == has_train
    assert (near(pixels, ORANGE) > 20) == has_validation


def test_scores_measured_in_training_are_a_curve_of_their_own_below(tmp_path):
    scored = [record | {"scores": {"cider_d": record["step"] / 200, "bleu_4": None}} for record in VALIDATION]
    training_curve([*TRAIN, *scored, VALIDATION[0] | {"scores": {}}], tmp_path / "curve.png", title="A title")
    with Image.open(tmp_path / "curve.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[:2] == (845, 1040)
    assert near(pixels[:520], BLUE) > 20
    assert near(pixels[:520], ORANGE) > 20
    assert near(pixels[:520], GREEN) == 0
    assert near(pixels[520:], GREEN) > 20


@pytest.mark.parametrize("title", ["", "costs $5 and $6", "$\\alpha", "猫 🦊", "tab\tand\nline\x00"])
def test_any_title_of_a_curve(tmp_path, title):
    curve(tmp_path, TRAIN, title=title)


def test_matplotlib_is_left_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    contact_sheet([picture("a", "b")], tmp_path / "sheet.png", title="")
    training_curve(TRAIN, tmp_path / "curve.png", title="")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_loaded(repository_root):
    """It chooses a window system for the whole program, and keeps every figure."""
    command = "import sys, systems.pixel_llm.evaluation.figures as f; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False, cwd=repository_root).returncode == 0
