"""The page of an inspection: one file, no script, whatever captions and files are called."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from systems.pixel_llm.data.inspection import inspect_samples
from systems.pixel_llm.data.inspection_checks import check_inspection
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.unpaired import UnpairedFiles
from systems.pixel_llm.evaluation.inspection_page import write_page
from systems.pixel_llm.evaluation.thumbnails import THUMBNAIL_SIDE

HOSTILE = "<script>alert('caption')</script> \"><img src=x onerror=alert(1)> {{ 7 * 7 }} &amp;"


class Elements(HTMLParser):
    """The elements of a page that matter here."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def write(tmp_path, samples, validation=(), *, unpaired=None) -> tuple[str, Elements]:
    inspection = inspect_samples(samples, validation, image_size=64, unpaired=unpaired)
    path = tmp_path / "page.html"
    write_page(inspection, check_inspection(inspection), path, folders=[(HOSTILE, "read as: text")])
    page = path.read_text(encoding="utf-8")
    return page, Elements(page)


def picture(folder, name, colours=("red", "white")) -> Path:
    image = Image.new("RGB", (80, 60), colours[0])
    image.paste(colours[1], (20, 10, 50, 40))
    image.save(folder / name)
    return folder / name


def test_hostile_captions_and_names_are_text_and_nothing_else(tmp_path):
    name = "<b onclick=x>&.png"
    (tmp_path / "<i>bad.jpg").write_bytes(b"no picture")
    samples = [
        Sample(picture(tmp_path, name), (HOSTILE, HOSTILE)),
        Sample(picture(tmp_path, "other.png", ("red", "white")), (HOSTILE,)),
        Sample(tmp_path / "<i>bad.jpg", ("a caption",)),
    ]
    unpaired = UnpairedFiles((tmp_path / "<u>.jpg",), ("<s>.txt",))
    page, elements = write(tmp_path, samples[:1], samples[1:], unpaired=unpaired)
    assert "script" not in elements.tags
    assert not {"b onclick=x", "i", "u", "s"} & set(elements.tags)
    assert elements.handlers == []
    text = "".join(elements.text)
    assert HOSTILE.replace("&amp;", "&") in text or HOSTILE in text
    assert name in text
    assert "{{ 7 * 7 }}" in text
    assert "49" not in re.sub(r"data:image[^\"]+|[\d.]{3,}", "", page)


def test_it_is_one_file_that_asks_for_nothing_else(tmp_path):
    samples = [Sample(picture(tmp_path, f"{place}.png"), (f"caption number {place}",)) for place in range(3)]
    page, elements = write(tmp_path, samples)
    assert all(link.startswith("data:image/jpeg;base64,") for link in elements.links)
    assert len(elements.links) >= 3
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_small_jpegs_are_shown_as_large_as_the_page_has_room_for(tmp_path):
    Image.effect_noise((200, 200), 60).convert("RGB").save(tmp_path / "square.jpg")
    _, elements = write(tmp_path, [Sample(tmp_path / "square.jpg", ("a square",))])
    data = base64.b64decode(elements.links[0].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def test_it_shows_what_was_found(tmp_path):
    train = [
        Sample(picture(tmp_path, f"{colour}.png", (colour, "black")), (f"a black square on {colour}",))
        for colour in ("red", "lime", "blue", "yellow")
    ]
    for name in ("cut.png", "also_cut.png"):
        (tmp_path / name).write_bytes(train[0].image_path.read_bytes()[:60])
        train.append(Sample(tmp_path / name, ("a cut picture",)))
    validation = [Sample(picture(tmp_path, "again.png", ("red", "black")), ("IMG_1.JPG",))]
    page, elements = write(tmp_path, train, validation)
    text = " ".join("".join(elements.text).split())
    for expected in (
        "Training should not start", "Unreadable pictures (2)", "cannot be decoded: ",
        "Captions that look wrong (1)", "is the file's name", "Duplicates, side by side (1 group)",
        "2 copies of one file, in training and in validation leak", "A look at the data (7)", "unreadable",
    ):  # fmt: skip
        assert expected in text, expected
    assert page.count("<svg") == 4
    assert page.count('class="bar"') >= 8
    assert text.index("readable picturesstop") < text.index("number of pictureswarn") < text.index("odd picturesok")
    assert "<code>--preset tiny</code>" in page


def test_copies_among_pictures_that_look_the_same_come_first_and_are_marked(tmp_path):
    small = picture(tmp_path, "1.png")
    Image.open(small).resize((160, 120)).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "2.png").read_bytes())
    _, elements = write(tmp_path, [Sample(tmp_path / f"{number}.png", (f"number {number}",)) for number in (1, 2, 3)])
    text = " ".join("".join(elements.text).split())
    assert "3 pictures that look the same, 2 of them copies copy number 2 2.png copy number 3 3.png number 1" in text


def test_captions_of_many_pictures_are_shown_once_each(tmp_path):
    samples = [Sample(picture(tmp_path, f"{number}.png"), ("a drawing",)) for number in range(6)]
    _, elements = write(tmp_path, samples)
    text = " ".join("".join(elements.text).split())
    assert "Captions that look wrong (6) Of pictures with the same caption one is shown. is the caption" in text
    assert re.search(r"and \d+ more", text) is None


@pytest.mark.parametrize("count", [0, 1])
def test_almost_nothing_makes_a_page_too(tmp_path, count):
    samples = [Sample(picture(tmp_path, f"{place}.png"), ("a caption",)) for place in range(count)]
    _, elements = write(tmp_path, samples)
    assert elements.tags[0] == "html"
    assert ("near-duplicates" in "".join(elements.text)) == (count > 0)


def test_of_much_only_a_part_is_shown_and_the_rest_is_counted(tmp_path):
    shown = picture(tmp_path, "shown.png")
    samples = []
    for place in range(60):
        path = tmp_path / f"{place:02}.png"
        path.hardlink_to(shown)
        samples.append(Sample(path, (f"<{place}>",)))
    page, elements = write(tmp_path, samples)
    text = " ".join("".join(elements.text).split())
    assert "Captions that look wrong (60)" in text
    assert "and 42 more" in text
    assert "(54 not shown)" in text
    assert len(elements.links) < 60
    assert len(page) < 400_000
