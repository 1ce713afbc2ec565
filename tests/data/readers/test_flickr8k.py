"""`flickr8k`: a token file, and the lists that divide the pictures."""

import pytest

from systems.pixel_llm.data.samples import read_folder
from systems.pixel_llm.errors import DatasetError

TOKENS = "a.jpg#0\ta cat .\na.jpg#1\tone cat\nb.jpg#0\ta dog\nc.jpg#0\ta\tcow\n"
PICTURES = {"Images/a.jpg": None, "Images/b.jpg": None, "Images/c.jpg": None}
TRAIN, DEV, TEST = "Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"


def names(samples) -> list[str]:
    return [sample.image_path.name for sample in samples]


@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "results_20130124.txt"])
def test_pictures_in_the_folder_below(folder, captions_of, name):
    reading = read_folder(folder({**PICTURES, name: TOKENS}))
    assert captions_of(reading) == {
        "Images/a.jpg": ("a cat .", "one cat"), "Images/b.jpg": ("a dog",), "Images/c.jpg": ("a cow",)
    }  # fmt: skip
    assert (reading.caption_format, reading.told) == ("flickr8k", f"Flickr8k tokens, {name}")
    assert reading.split == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n"])
def test_marks_and_line_ends(folder, captions_of, encoding, end):
    text = TOKENS.replace("\n", end).encode(encoding)
    assert captions_of(read_folder(folder({**PICTURES, "x.token.txt": text})))["Images/a.jpg"] == ("a cat .", "one cat")


def test_lemmas_are_read_only_where_there_is_nothing_else(folder):
    data = folder({**PICTURES, "F.lemma.token.txt": TOKENS})
    assert read_folder(data).told.endswith("F.lemma.token.txt")
    (data / "F.token.txt").write_text(TOKENS)
    reading = read_folder(data)
    assert (reading.told, reading.others) == ("Flickr8k tokens, F.token.txt", ())


def test_lists_divide_and_all_is_read(folder):
    data = folder({**PICTURES, "f.token.txt": TOKENS, TRAIN: "a.jpg\r\n", DEV: "b.jpg\n\n", TEST: "c.jpg"})
    reading = read_folder(data)
    assert len(reading.samples) == 3
    assert {part: names(samples) for part, samples in reading.split.items()} == {
        "train": ["a.jpg"], "dev": ["b.jpg"], "test": ["c.jpg"]
    }  # fmt: skip
    assert reading.told.endswith("divided by the lists beside it: 1 train, 1 dev, 1 test")


def test_without_a_train_list_the_rest_is_trained_on(folder):
    data = folder({**PICTURES, "f.token.txt": TOKENS, DEV: "b.jpg\n"})
    assert names(read_folder(data).split["train"]) == ["a.jpg", "c.jpg"]


def test_what_is_missing_is_counted(folder):
    text = TOKENS + "b.jpg.1#0\tof nothing\nd.jpg#0\t \n"
    data = folder({**PICTURES, "Images/d.jpg": None, "f.token.txt": text, TRAIN: "a.jpg\nz.jpg\n"})
    assert read_folder(data).skipped == (
        "1 with no such picture (b.jpg.1) and 1 with an empty caption (d.jpg) and 1 with a place in a list of the "
        "split, but no caption (z.jpg)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"f.token.txt": TOKENS + "b.jpg a dog\n"}, r"f\.token\.txt, line 5, must be .*found 'b\.jpg a dog'"),
        ({"f.token.txt": TOKENS + "#0\ta dog\n"}, r"f\.token\.txt, line 5, must be"),
        ({"f.token.txt": TOKENS + "a.jpg#1\tanother cat\n"}, r"line 5, has a\.jpg#1 again, after line 2"),
        ({"f.token.txt": TOKENS + "/etc/passwd#1\tx\n"}, r"is absolute"),
        ({"f.token.txt": TOKENS + "../../a.jpg#1\tx\n"}, r"leaves the data folder"),
        ({"f.token.txt": TOKENS.encode() + b"b.jpg#1\t\xe9\n"}, r"not text in UTF-8: .* at byte 68"),
        ({"f.token.txt": "x.jpg#0\tof nothing\n"}, r"None of the 1 pictures .*f\.token\.txt names is there"),
        ({"f.token.txt": "\n \n"}, r"f\.token\.txt is empty"),
        ({TRAIN: "z.jpg\n"}, r"None of the 1 pictures in .*trainImages\.txt is there with a caption"),
        ({TRAIN: "a.jpg\nb.jpg", DEV: "b.jpg"}, r"1 pictures are in more than one of the lists .*\(b\.jpg\)"),
        ({TRAIN: "a.jpg", "otherTrainImages.txt": "b.jpg"}, r"There are two lists"),
    ],
)
def test_damaged(folder, changes, message):
    with pytest.raises(DatasetError, match=message):
        read_folder(folder({**PICTURES, "f.token.txt": TOKENS, **changes}), "flickr8k", "f.token.txt")


def test_a_list_that_a_link_brings_in_is_refused(folder, tmp_path):
    data = folder({**PICTURES, "f.token.txt": TOKENS})
    (tmp_path / "list.txt").write_text("a.jpg")
    (data / TRAIN).symlink_to(tmp_path / "list.txt")
    with pytest.raises(DatasetError, match=r"trainImages\.txt is a symbolic link that leads out"):
        read_folder(data)


def test_a_real_one(shared_data):
    reading = read_folder(shared_data / "flickr8k_part")
    assert (reading.caption_format, len(reading.samples), reading.pairs) == ("flickr8k", 3250, 16250)
    assert {part: len(samples) for part, samples in reading.split.items()} == {"train": 3000, "dev": 250}
    assert reading.others == [
        "JSON manifest, dev.json (1,250 captions)", "JSON manifest, train.json (15,000 captions)"
    ]  # fmt: skip
    assert reading.skipped == ""
