"""What is said about captions: lengths, what a model would cut, the words, and which captions look wrong."""

from pathlib import Path

import pytest

from systems.pixel_llm.data.inspection_captions import inspect_captions
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.tokenizer import CaptionTokenizer

GOOD = [
    f"A {size} {colour} {thing} stands near the {place}"
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for thing in ("house", "horse", "car")
    for place in ("river", "wood")
]


def report_on(captions, *, max_seq_len=128, name="picture_{}.jpg"):
    samples = [Sample(Path(name.format(place)), (caption,)) for place, caption in enumerate(captions)]
    return inspect_captions(samples, max_seq_len=max_seq_len)


def test_good_captions_are_counted_and_nothing_is_suspected():
    report = report_on([*GOOD, GOOD[0]])
    assert (report.num_captions, report.num_distinct) == (37, 36)
    assert report.suspects == ()
    assert report.most_common_captions[0] == (GOOD[0], 2)
    assert dict(report.most_common_words)["stands"] == 37
    assert report.num_words == len(set(" ".join(GOOD).lower().split()))
    assert (report.words.minimum, report.words.maximum) == (8, 8)
    assert sum(bar.count for bar in report.word_bars) == sum(bar.count for bar in report.token_bars) == 37


def test_a_word_is_one_with_apostrophes_and_hyphens_and_without_marks():
    report = report_on(["It's a well-known, (old) Straße!", "it's here"])
    assert dict(report.most_common_words) == {"it's": 2, "a": 1, "well-known": 1, "old": 1, "straße": 1, "here": 1}
    assert report.num_rare_words == 5


def test_the_cut_share_is_that_of_training():
    captions = [*GOOD, "zq " * 40]
    tokenizer = CaptionTokenizer.train(captions, vocab_size=50_000)
    for max_seq_len in (4, 9, 10, 40, 128):
        cut = tokenizer.encode_batch(captions, max_seq_len=max_seq_len).num_truncated
        assert report_on(captions, max_seq_len=max_seq_len).cut_share == pytest.approx(cut / len(captions))


def test_the_advised_length_cuts_nothing():
    captions = [*GOOD, *["one two three four five six seven eight nine ten eleven twelve thirteen"] * 2]
    report = report_on(captions, max_seq_len=4)
    assert report.cut_share == 1
    assert report.advised_max_seq_len % 8 == 0
    assert report_on(captions, max_seq_len=report.advised_max_seq_len).cut_share == 0


def test_one_endless_caption_does_not_decide_the_advised_length():
    captions = [*GOOD, "x1 " * 3000]
    assert report_on(captions).tokens.maximum > 3000
    assert report_on(captions).advised_max_seq_len == report_on(GOOD).advised_max_seq_len


@pytest.mark.parametrize(
    ("caption", "why"),
    [
        ("IMG_2034.JPG", "is the file's name"),
        ("some-file.png", "is the file's name"),
        ("DSC 00042", "is the file's name"),
        ("picture_36", "is the file's name"),
        ("n/a", "stands for a caption that is missing"),
        ("None", "stands for a caption that is missing"),
        ("a dog <br> runs", "holds markup or a link"),
        ("a dog &amp; a cat", "holds markup or a link"),
        ("from https://example.com/dog", "holds markup or a link"),
        ("12345 -- 4711 !!!", "is mostly not letters"),
        ("собака бежит по траве", "is in another script than the others (Latin)"),
        ("一只狗在草地上奔跑", "is in another script than the others (Latin)"),
        ("very " * 60 + "long", "is very long"),
    ],
)
def test_a_caption_that_looks_wrong_is_named(caption, why):
    report = report_on([*GOOD, caption])
    assert [(each.path.name, each.caption, each.why) for each in report.suspects] == [("picture_36.jpg", caption, why)]


@pytest.mark.parametrize(
    "caption",
    ["Ein Hund läuft über die Straße", "a sign that says STOP 24/7", "A man <3 his dog", "a none too happy dog"],
)
def test_a_caption_that_looks_right_is_let_alone(caption):
    assert report_on([*GOOD, caption]).suspects == ()


def test_captions_in_another_language_throughout_are_no_odd_ones():
    chinese = [f"一只{animal}在{place}奔跑" for animal in "狗猫马牛" for place in ("草地上", "河边", "街上")]
    assert report_on(chinese).suspects == ()
    japanese = [f"{animal}が{place}で走っている" for animal in "犬猫馬牛" for place in ("川", "ソファ", "まち")]
    assert report_on(japanese).suspects == ()


def test_one_caption_for_many_pictures_is_named():
    report = report_on([*GOOD, *["a photo of sks dog"] * 8])
    assert {each.caption for each in report.suspects} == {"a photo of sks dog"}
    assert len(report.suspects) == 8
    assert report.suspect_share == pytest.approx(8 / 44)


def test_a_name_that_a_person_wrote_may_be_the_caption():
    assert report_on(["a red car", *GOOD], name="a red car").suspects == ()
