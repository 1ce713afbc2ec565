"""The words of `pixel-llm caption`: stdin among the pictures, and what is taken for granted."""

from systems.pixel_llm.cli.caption_options import CaptionOptions, default_generation
from systems.pixel_llm.cli.word_order import folders_first


def test_stdin_stands_among_the_pictures_wherever_flags_are():
    words = ["RUN", "--as", "jsonl", "-", "--overwrite", "x.jpg", "-0"]
    assert folders_first(words, CaptionOptions) == ["RUN", "-", "x.jpg", "--as", "jsonl", "--overwrite", "-0"]


def test_beams_are_the_default_unless_captions_are_drawn():
    assert default_generation(["RUN", "x.jpg"]).num_beams == 3
    assert default_generation(["RUN", "x.jpg", "--do-sample"]).num_beams == 1
    assert default_generation(["RUN", "x.jpg", "--do_sample"]).num_beams == 1
