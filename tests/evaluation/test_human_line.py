"""People against each other: each reference in turn, and the model against the same references."""

import numpy as np
import pytest

from systems.pixel_llm.evaluation import human_line as module
from systems.pixel_llm.evaluation.human_line import human_line
from systems.pixel_llm.evaluation.score import NAMES, score_captions

REFERENCES = [
    ["a dog runs on grass", "a brown dog runs", "the dog is running"],
    ["two children play", "children on a beach", "kids play on the beach"],
    ["a man rides a bike", "a man on a red bike", "someone cycles", "a cyclist"],
]
CAPTIONS = ["a dog runs", "a man on a beach", "a man on a bike"]


def values(row):
    return [each.value for each in row.scores]


def test_each_reference_is_scored_against_the_others_in_turn():
    line = human_line(CAPTIONS, REFERENCES)
    human, model = [], []
    for turn in range(3):
        others = [each[:turn] + each[turn + 1 :] for each in REFERENCES]
        human.append(score_captions([each[turn] for each in REFERENCES], others).values)
        model.append(score_captions(CAPTIONS, others).values)
    assert [each.name for each in line.human.scores] == list(NAMES)
    assert values(line.human) == pytest.approx(np.mean(human, axis=0))
    assert values(line.model) == pytest.approx(np.mean(model, axis=0))


def test_the_signature_says_how_many_references_there_were():
    line = human_line(CAPTIONS, REFERENCES)
    for row in (line.human, line.model):
        assert all(
            each.signature.startswith("leave-one-out:3|") and "|refs:2-3|" in each.signature for each in row.scores
        )
    assert "3 to 4" in line.human.label


def test_of_many_pictures_some_are_scored(monkeypatch):
    monkeypatch.setattr(module, "MAX_PICTURES", 2)
    line = human_line(CAPTIONS, REFERENCES)
    assert values(line.human) == values(human_line(CAPTIONS[::2], REFERENCES[::2]).human)
    assert all("|pictures:2|" in each.signature for each in line.human.scores)


def test_a_picture_with_one_reference_is_refused():
    with pytest.raises(ValueError, match="two references or more"):
        human_line(["a dog", "a cat"], [["a dog", "the dog"], ["a cat"]])
