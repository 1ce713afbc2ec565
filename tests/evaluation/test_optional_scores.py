"""All optional scores at once: what is there is computed, the rest has its reason."""

import sys

import numpy as np
import pytest

from systems.pixel_llm import __version__
from systems.pixel_llm.evaluation import optional_scores as module
from systems.pixel_llm.evaluation.clip_score import ClipScores
from systems.pixel_llm.evaluation.meteor import meteor_of_sums
from systems.pixel_llm.evaluation.optional_scores import OPTIONAL_NAMES, optional_scores

CAPTIONS = ["a brown dog", "two cats", "a boat"]
REFERENCES = [["a dog"], ["two cats sleep", "cats"], ["a boat on a lake"]]
COUNTS = ["4 3 2 1 1 1 1 1 0 0 0 0 0 0 0 0 0 1 1 0 1 3 3", "2 3 0 1 1 1 0 0" + " 0" * 12 + " 1 1 1", "1 2" + " 0" * 21]
END = f"pictures:3|refs:1-2|pixel-llm:{__version__}"


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    monkeypatch.setitem(sys.modules, "transformers", None)


@pytest.mark.usefixtures("nothing_installed")
def test_without_anything_each_score_has_a_reason(tmp_path):
    found = optional_scores(CAPTIONS, REFERENCES)
    assert (found.scores, found.per_picture) == ([], {})
    assert tuple(found.not_computed) == OPTIONAL_NAMES
    beginnings = ["chrF needs sacrebleu", "METEOR needs Java", "SPICE needs Java", *["CLIPScore looks at"] * 2]
    for reason, beginning in zip(found.not_computed.values(), beginnings, strict=True):
        assert reason.startswith(beginning)
        assert reason.endswith(".")
    pictures = ["a.jpg", "b.jpg", "c.jpg"]
    assert "pass clip_folder=" in optional_scores(CAPTIONS, REFERENCES, pictures=pictures).not_computed["clip_score"]
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").touch()
    found = optional_scores(CAPTIONS, REFERENCES, pictures=pictures, clip_folder=tmp_path)
    assert "needs transformers" in found.not_computed["ref_clip_score"]


@pytest.mark.usefixtures("nothing_installed")
def test_what_comes_from_the_programs(monkeypatch):
    """With the parts that need more than this package giving values of their own."""
    statistics = np.array([[float(each) for each in line.split()] for line in COUNTS])
    clip = ClipScores(np.array([0.6, 0.8, 0.7]), np.array([0.7, 0.8, 0.9]), "0123456789ab", "transformers-5.0")
    monkeypatch.setattr(module, "meteor_statistics", lambda *_: statistics)
    monkeypatch.setattr(module, "spice", lambda *_: np.array([0.5, 0, 0.25]))
    monkeypatch.setattr(module, "clip_scores", lambda *_, folder: clip)
    found = optional_scores(CAPTIONS, REFERENCES, pictures=["a.jpg", "b.jpg", "c.jpg"], clip_folder="clip")
    assert list(found.not_computed) == ["chrf"]
    assert [score.name for score in found.scores] == list(found.per_picture) == list(OPTIONAL_NAMES[1:])
    meteor, spice, clip_score, ref_clip_score = found.scores
    assert meteor.value == meteor_of_sums(statistics.sum(axis=0)) != found.per_picture["meteor"].mean()
    assert (spice.value, clip_score.value, ref_clip_score.value) == pytest.approx((0.25, 0.7, 0.8))
    assert found.per_picture["spice"].tolist() == [0.5, 0, 0.25]
    for score in found.scores:
        low, high = score.interval
        assert low < score.value < high
    assert meteor.signature == (
        "program:meteor-1.5|lang:en|norm:yes|alpha:0.85|beta:0.2|gamma:0.6|delta:0.75|weights:1,0.6,0.8,0.6|tok:ptb.1|"
        + END
    )
    assert spice.signature == f"program:spice-1.0|tok:ptb.1|{END}"
    clip_settings = "w:2.5|prompt:A_photo_depicts|weights:0123456789ab|library:transformers-5.0"
    assert clip_score.signature == f"{clip_settings}|{END}"
    assert ref_clip_score.signature == f"{clip_settings}|with:references|{END}"


def test_chrf(monkeypatch):
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu, the extra `scores`, is not installed")
    monkeypatch.setenv("PATH", "")
    found = optional_scores(CAPTIONS, REFERENCES, num_draws=200)
    (score,) = found.scores
    assert list(found.not_computed) == list(OPTIONAL_NAMES[1:])
    assert score.signature == (
        f"sacrebleu:chrF2|nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}|"
        f"scale:0..1|{END}"
    )
    low, high = score.interval
    assert 0 < low < score.value < high < 1
    assert found.per_picture["chrf"].shape == (3,)
    assert score.interval == optional_scores(CAPTIONS, REFERENCES, num_draws=200).scores[0].interval
    assert optional_scores(CAPTIONS, REFERENCES, num_draws=0).scores[0].interval is None


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="found 3 captions, 2 lists"):
        optional_scores(CAPTIONS, REFERENCES[:2])
    with pytest.raises(ValueError, match="found 1 pictures, 3 captions"):
        optional_scores(CAPTIONS, REFERENCES, pictures=["a.jpg"])
