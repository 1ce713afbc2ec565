"""Generation settings: what is refused, by which words, and how settings are changed."""

import math
from dataclasses import FrozenInstanceError, fields

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.generation_options import GenerationOptions

BEAMS, DRAWS = {"num_beams": 4}, {"do_sample": True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, r"max_length .*at least 1, or None, not 0"),
        ({"max_length": 2.5}, r"max_length .*whole number.*not 2.5"),
        ({"max_length": True}, r"max_length .*not True"),
        ({"min_length": -1}, r"min_length .*at least 0, not -1"),
        ({"num_beams": 0}, r"num_beams .*from 1 to 1000, not 0"),
        ({"num_beams": 1001}, r"num_beams .*from 1 to 1000, not 1001\. 3 to 5 are usual"),
        (BEAMS | {"length_penalty": math.inf}, r"length_penalty .*finite.*inf"),
        (BEAMS | {"length_penalty": math.nan}, r"length_penalty .*finite.*nan"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty .*above 0.*not 0.0\. 1 changes nothing"),
        ({"repetition_penalty": -1.0}, r"repetition_penalty .*not -1"),
        ({"repetition_penalty": math.inf}, r"repetition_penalty .*finite.*inf"),
        ({"repetition_penalty": math.nan}, r"repetition_penalty .*nan"),
        ({"no_repeat_ngram_size": -1}, r"no_repeat_ngram_size .*at least 0, not -1"),
        ({"no_repeat_ngram_size": 1.0}, r"no_repeat_ngram_size .*whole number"),
        ({"num_return_sequences": 0}, r"num_return_sequences .*at least 1, not 0"),
        (DRAWS | {"temperature": 0.0}, r"temperature .*above 0.*do_sample=False"),
        (DRAWS | {"temperature": math.inf}, r"temperature .*inf"),
        (DRAWS | {"top_k": 0}, r"top_k .*at least 1, or None, not 0"),
        (DRAWS | {"top_p": 0.0}, r"top_p .*above 0 and at most 1, or None, not 0.0"),
        (DRAWS | {"top_p": 1.1}, r"top_p .*not 1.1"),
        (DRAWS | {"top_p": math.nan}, r"top_p .*nan"),
        ({"max_length": 5, "min_length": 5}, r"min_length=5 .*below max_length=5"),
        ({"temperature": 0.7}, r"temperature=0\.7, top_k=None and top_p=None .*need do_sample=True"),
        ({"top_k": 5}, r"need do_sample=True"),
        ({"top_p": 0.5}, r"need do_sample=True"),
        (BEAMS | DRAWS, r"do_sample=True .*num_beams.*choose one"),
        ({"length_penalty": 0.5}, r"length_penalty and early_stopping .*need num_beams above 1"),
        ({"early_stopping": True}, r"need num_beams above 1"),
        ({"num_return_sequences": 2}, r"num_return_sequences=2 .*num_beams of at least.*not 1, or do_sample"),
        (BEAMS | {"num_return_sequences": 5}, r"num_return_sequences=5 .*not 4"),
    ],
)
def test_what_is_out_of_range_or_does_not_go_together_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        GenerationOptions(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 1},
        {"max_length": 5, "min_length": 4},
        BEAMS | {"length_penalty": -2.0, "early_stopping": True, "num_return_sequences": 4},
        DRAWS | {"temperature": 1e-9, "top_k": 1, "top_p": 1.0, "num_return_sequences": 50},
        {"repetition_penalty": 0.5, "no_repeat_ngram_size": 3, "prefix": "a photo of"},
        {"num_beams": 1000},
    ],
)
def test_what_is_in_range_stands(settings):
    options = GenerationOptions(**settings)
    assert {name: getattr(options, name) for name in settings} == settings


def test_settings_are_replaced_one_by_one_and_checked_again():
    options = GenerationOptions(num_beams=4)
    longer = options.replaced(length_penalty=2.0)
    assert (longer.num_beams, longer.length_penalty) == (4, 2.0)
    assert options.length_penalty == 1.0
    with pytest.raises(ConfigError, match="need num_beams above 1"):
        longer.replaced(num_beams=1)


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"'num_beam'.*num_beams"):
        GenerationOptions().replaced(num_beam=3)


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        GenerationOptions().num_beams = 2


def test_every_setting_left_alone_is_greedy_captioning():
    options = GenerationOptions()
    neutral = {
        "max_length": None, "min_length": 0, "num_beams": 1, "length_penalty": 1.0, "early_stopping": False,
        "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "do_sample": False, "temperature": 1.0, "top_k": None,
        "top_p": None, "num_return_sequences": 1, "prefix": "",
    }  # fmt: skip
    assert {field.name: getattr(options, field.name) for field in fields(options)} == neutral
