"""The score of captions while training: of a fixed part, by beams, the same each time; it stops when it is asked to."""

import pytest
import torch

from systems.pixel_llm.data.images import open_image
from systems.pixel_llm.data.samples import Sample, read_samples
from systems.pixel_llm.data.transforms import make_transform
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.evaluation.validation_scorer import ValidationScorer
from systems.pixel_llm.models import create_pixel_llm


@pytest.fixture
def samples(tiny_picture_folder):
    return list(read_samples(tiny_picture_folder(count=12), "text"))


@pytest.fixture
def model(samples):
    torch.manual_seed(0)
    model = create_pixel_llm(
        image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, vocab_size=300
    )
    model.fit_tokenizer([caption for sample in samples for caption in sample.captions])
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.train()


def never():
    return False


def test_it_is_the_score_of_what_beams_say(model, samples):
    scorer = ValidationScorer(samples)
    found = scorer(model, never)
    transform = make_transform(model.preprocessing)
    images = torch.stack([transform(open_image(sample.image_path, at_least=(32, 32))) for sample in samples])
    longest = max(len(model.tokenizer.encode(caption)) for sample in samples for caption in sample.captions)
    captions = model.generate(images, num_beams=3, max_length=longest + 1)
    expected = score_captions(captions, [sample.captions for sample in samples]).cider_d.mean()
    distinct = len(set(captions)) / len(captions)
    assert found == {"cider_d": pytest.approx(expected, abs=1e-9), "distinct_captions": distinct}
    assert ValidationScorer(samples, with_cider_d=False)(model, never) == {"distinct_captions": distinct}
    assert scorer(model, never) == found
    assert model.training


def test_a_part_is_evenly_spaced(samples):
    scorer = ValidationScorer(samples, num_pictures=4)
    assert scorer._samples == [samples[place] for place in (0, 3, 6, 9)]


def test_it_stops_between_batches(model, samples, monkeypatch):
    monkeypatch.setattr("systems.pixel_llm.evaluation.validation_scorer.BATCH_SIZE", 5)
    answers = iter([False, True])
    asked = []

    def is_stopped():
        asked.append(next(answers))
        return asked[-1]

    assert ValidationScorer(samples)(model, is_stopped) is None
    assert asked == [False, True]


def test_what_cannot_be_read_is_left_out(model, samples, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with_bad = [Sample(image_path=bad, captions=("a red square",)), *samples]
    assert ValidationScorer(with_bad)(model, never) == ValidationScorer(samples)(model, never)
    assert ValidationScorer(with_bad[:1])(model, never) == {}


def test_where_memory_runs_out_fewer_are_captioned_at_a_time(model, samples, monkeypatch, caplog):
    expected = ValidationScorer(samples)(model, never)
    generate, sizes = model.generate, []

    def tight(images, **settings):
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return generate(images, **settings)

    monkeypatch.setattr(model, "generate", tight)
    scorer = ValidationScorer(samples)
    assert scorer(model, never) == expected
    assert scorer(model, never) == expected
    assert sizes == [12, 6, 3, 3, 3, 3, *[3] * 4]
    assert "captions are scored 3 pictures at a time" in caplog.text
