"""A model and captioned pictures in, an evaluation out: what is captioned, what is left out, what stands beside it."""

import random
from dataclasses import replace

import pytest
import torch
from PIL import Image

from systems.pixel_llm.data.samples import Sample, SampleTable, read_samples
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation import evaluate as module
from systems.pixel_llm.evaluation.evaluate import BEAM_SEARCH, bounded, caption_pictures, evaluate
from systems.pixel_llm.evaluation.nearest_neighbour import NearestNeighbour, picture_features
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.models.generation_options import GenerationOptions

NAMED = {"run": "runs/a", "checkpoint": "step_1", "data": ["pictures"], "split": "all"}


@pytest.fixture(scope="module")
def captioner():
    torch.manual_seed(0)
    model = create_pixel_llm(
        image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, max_seq_len=24
    )
    return Captioner(model)


@pytest.fixture
def samples(tmp_path):
    """Ten pictures of noise, three captions each."""
    for number in range(10):
        pixels = random.Random(number).randbytes(3 * 40 * 40)
        Image.frombytes("RGB", (40, 40), pixels).resize((80, 60)).save(tmp_path / f"{number}.png")
    words = ["dog", "cat", "man", "child", "bike", "beach", "snow", "ball", "tree", "car"]
    captions = [(f"a {word}", f"the {word} here", f"a {word} over there") for word in words]
    return SampleTable.of(Sample(tmp_path / f"{number}.png", captions[number]) for number in range(10))


def test_each_picture_is_captioned_as_the_captioner_does_it(captioner, samples):
    captioned = caption_pictures(captioner, samples, batch_size=4, num_workers=0)
    paths = [sample.image_path for sample in samples]
    wanted = captioner.caption_scored(paths, num_beams=BEAM_SEARCH.num_beams)
    assert captioned.images == [str(path) for path in paths]
    assert captioned.captions == [each[0].text for each in wanted]
    assert captioned.log_probabilities == pytest.approx([each[0].log_probability for each in wanted], rel=1e-4)
    assert captioned.references == [sample.captions for sample in samples]


def test_draws_are_the_same_each_time(captioner, samples):
    drawn = GenerationOptions(do_sample=True)
    once, again = (caption_pictures(captioner, samples, generation=drawn, num_workers=0).captions for _ in range(2))
    assert once == again
    assert len(set(once)) > 1


def test_pictures_that_cannot_be_read_are_left_out_and_listed(captioner, samples, tmp_path):
    (tmp_path / "3.png").write_bytes(b"no picture")
    (tmp_path / "7.png").unlink()
    calls = []
    result = evaluate(
        captioner, samples, **NAMED, train=None, batch_size=4, num_workers=0,
        on_progress=lambda *call: calls.append(call),
    )  # fmt: skip
    assert [each.references for each in result.pictures] == [
        sample.captions for number, sample in enumerate(samples) if number not in (3, 7)
    ]
    assert [(each.path, each.reason[:40]) for each in result.skipped] == [
        (str(tmp_path / "3.png"), f"{tmp_path / '3.png'} is not a picture"[:40]),
        (str(tmp_path / "7.png"), f"{tmp_path / '7.png'} does not exist"[:40]),
    ]
    assert any("2 of 10 pictures could not be read" in each for each in result.caveats)
    assert calls == [("captioning", done, 10) for done in (4, 8, 10)]


def test_nothing_to_read_is_an_error(captioner, samples, tmp_path):
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"None of the 10 pictures can be read.*0\.png"):
        evaluate(captioner, samples, **NAMED, train=None, num_workers=0)


def test_scores_are_those_of_the_captions(captioner, samples):
    result = evaluate(captioner, samples, **NAMED, train=samples, num_workers=0)
    captions, references = [each.caption for each in result.pictures], [each.references for each in result.pictures]
    wanted = score_captions(captions, references)
    assert list(result.scores) == wanted.scores()
    assert [each.cider_d for each in result.pictures] == wanted.cider_d.tolist()
    assert result.human is not None
    assert result.not_computed == {}
    assert result.diversity.copied_share == 0
    assert result.generation["num_beams"] == 3
    constant = result.baselines["constant"]
    assert constant.caption in list(samples.captions)
    assert list(constant.scores) == score_captions([constant.caption] * 10, references).scores()


def test_the_nearest_neighbour_says_the_central_caption_of_the_most_similar_training_picture(captioner, samples):
    # Pictures looked up among themselves find themselves, whatever order they are in.
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    neighbour = NearestNeighbour.of(captioner, samples.select(order), batch_size=3, num_workers=0)
    captioned = caption_pictures(captioner, samples, num_workers=0, neighbour=neighbour)
    assert [order[number] for number in captioned.nearest] == list(range(10))
    row = evaluate(captioner, samples, **NAMED, train=samples, num_workers=0).baselines["nearest"]
    assert row.score("BLEU-1").value == pytest.approx(1)
    assert "10 training pictures" in row.label


def test_features_are_the_mean_over_the_picture_at_unit_length(captioner):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    features = captioner.model.encode_images(images).mean(dim=1)
    assert torch.allclose(picture_features(captioner, images), features / features.norm(dim=1, keepdim=True), atol=1e-6)


def test_training_pictures_that_are_gone_cost_one_baseline(captioner, samples, tmp_path):
    train = SampleTable.of([Sample(tmp_path / "gone.png", ("a dog", "the dog"))])
    result = evaluate(captioner, samples, **NAMED, train=train, num_workers=0)
    assert list(result.baselines) == ["constant"]
    assert result.not_computed == {"nearest": "None of 1 training pictures can be read."}


def test_without_training_pictures_baselines_are_not_computed(captioner, samples):
    result = evaluate(captioner, samples, **NAMED, train=None, without_train="they are secret", num_workers=0)
    assert result.baselines == {}
    assert result.not_computed == dict.fromkeys(("constant", "nearest", "copied_share"), "they are secret")
    assert result.diversity.copied_share is None


def test_one_reference_a_picture_has_no_human_line(captioner, samples):
    lone = SampleTable.of(Sample(sample.image_path, sample.captions[:1]) for sample in samples)
    result = evaluate(captioner, lone, **NAMED, train=None, num_workers=0)
    assert result.human is None
    assert "10 of the 10 pictures have one reference alone" in result.not_computed["human"]
    assert any("one reference: scores are far lower" in each for each in result.caveats)


def test_captions_are_no_longer_than_those_of_training(captioner, samples):
    longest = max(captioner.model.tokenizer.count_tokens(list(samples.captions))) + 1  # with the end mark
    assert bounded(BEAM_SEARCH, captioner, samples) == replace(BEAM_SEARCH, max_length=min(longest, 24))
    short = SampleTable.of([Sample(samples[0].image_path, ("dog",))])
    assert bounded(BEAM_SEARCH, captioner, short).max_length == 4
    asked = GenerationOptions(max_length=9)
    assert bounded(asked, captioner, short) == asked
    assert bounded(BEAM_SEARCH, captioner, None) == BEAM_SEARCH
    assert bounded(GenerationOptions(min_length=6), captioner, short).max_length == 7


def test_a_model_that_is_not_above_a_baseline_is_told(captioner, samples, monkeypatch):
    monkeypatch.setattr(module, "FEW_PICTURES", 10)
    result = evaluate(captioner, samples, **NAMED, train=samples, num_workers=0)
    told = [each for each in result.caveats if each.startswith("By CIDEr-D")]
    # Pictures looked up among themselves say what is said of them; the model has learned nothing.
    assert any("below the caption of the most similar picture (0.000 against" in each for each in told)
    monkeypatch.setattr(module, "FEW_PICTURES", 11)
    result = evaluate(captioner, samples, **NAMED, train=samples, num_workers=0)
    assert not any(each.startswith("By CIDEr-D") for each in result.caveats)


def test_a_real_folder(captioner, tiny_picture_folder):
    folder = tiny_picture_folder(count=12)
    result = evaluate(captioner, read_samples(folder, "text"), **NAMED, train=None, num_workers=0)
    assert len(result.pictures) == 12
    assert any("CIDEr over 12 pictures means little" in each for each in result.caveats)
