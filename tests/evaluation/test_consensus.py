"""The best constant caption and the most central one are those that trying all of them finds."""

import numpy as np
import pytest

from systems.pixel_llm.evaluation.consensus import best_constant_caption, central_captions
from systems.pixel_llm.evaluation.score import score_captions

REFERENCES = [
    ["a dog runs on the grass", "a brown dog runs"],
    ["a dog jumps over a bar", "the dog jumps", "a white dog jumps over the bar"],
    ["two children play on the beach", "children on a beach"],
    ["a dog runs on the beach", "a dog on the beach"],
    ["a man rides a bike", "a man on a red bike"],
]


def tried_one_by_one(references):
    """(mean CIDEr-D over the pictures that it does not belong to, caption) of each caption."""
    for picture, captions in enumerate(references):
        for caption in captions:
            scores = score_captions([caption] * len(references), references).cider_d
            yield float(np.delete(scores, picture).mean()), caption


def test_the_constant_caption_is_the_best_of_all_tried():
    found = best_constant_caption(REFERENCES)
    score, caption = max(tried_one_by_one(REFERENCES), key=lambda each: each[0])
    assert found.caption == caption
    assert found.cider_d == pytest.approx(score, rel=1e-9)
    assert (found.num_candidates, found.num_pictures) == (11, 5)


def test_a_caption_is_not_chosen_for_its_likeness_to_its_own_picture():
    # The unicorn's two captions are alike and rare, which would win if each could count on its own picture.
    references = [["a unicorn in pink armour sings", "a unicorn in pink armour sings loudly"]]
    references += [[f"a dog on the {place}", f"a dog runs on the {place}"] for place in ("grass", "beach", "snow")]
    references += [["a man on a bike"], ["a woman on a horse"]]
    assert "dog" in best_constant_caption(references).caption


def test_so_many_candidates_are_drawn_and_the_same_ones_each_time():
    some = best_constant_caption(REFERENCES, max_candidates=3, seed=5)
    assert some.num_candidates == 3
    assert some == best_constant_caption(REFERENCES, max_candidates=3, seed=5)
    assert some.cider_d <= best_constant_caption(REFERENCES).cider_d


def test_a_text_that_comes_again_is_one_candidate():
    assert best_constant_caption([["a dog"], ["a dog", "a cat"], ["a dog"]]).num_candidates == 2


def test_one_picture_has_a_constant_caption_too():
    assert best_constant_caption([["a dog", "a cat"]]).caption == "a dog"


def test_captions_without_a_word_are_no_obstacle():
    assert best_constant_caption([["..."], ["a dog"], ["a dog runs"]]).caption in ("a dog", "a dog runs")


def test_the_central_caption_is_nearest_to_the_others_of_its_picture():
    odd_one_out = ["my holiday photo", "a dog runs on the beach", "a brown dog runs on the beach"]
    others = [["a man rides a bike", "a man on a bike", "a sunset"], ["children play", "a child"], ["a cat"]]
    central = central_captions([odd_one_out, *others])
    assert central[0] in odd_one_out[1:]
    assert central[1] in others[0][:2]
    assert central[2:] == ["children play", "a cat"]  # of two, each is as near as the other
