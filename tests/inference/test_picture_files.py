"""Many picture files: in order, a batch at a time, a bad one in its place, and no more read than is needed."""

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.inference import CaptionedPicture, Captioner, UnreadPicture, caption_files
from systems.pixel_llm.models import create_pixel_llm


@pytest.fixture(scope="module")
def captioner():
    torch.manual_seed(1)
    model = create_pixel_llm(
        image_size=16, patch_size=8, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, max_seq_len=8
    )
    return Captioner(model)


@pytest.fixture
def paths(tiny_picture_folder):
    return sorted(tiny_picture_folder(count=7, text=False).iterdir())


@pytest.mark.parametrize("num_workers", [None, 1, 3])
def test_captions_are_those_of_the_captioner_in_batches(captioner, paths, num_workers):
    batches = list(caption_files(captioner, paths, batch_size=3, num_workers=num_workers, num_beams=2))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    outcomes = [each for batch in batches for each in batch]
    assert [each.path for each in outcomes] == paths
    assert [each.captions[0].text for each in outcomes] == captioner.caption(paths, num_beams=2)


def test_bad_ones_stand_where_their_captions_would(captioner, paths, write_bad_pictures, tmp_path):
    bad = write_bad_pictures(tmp_path / "bad")
    mixed = [path for pair in zip(paths, bad, strict=False) for path in pair]
    outcomes = [each for batch in caption_files(captioner, mixed, batch_size=4) for each in batch]
    assert [each.path for each in outcomes] == mixed
    assert [type(each) for each in outcomes] == [CaptionedPicture, UnreadPicture] * (len(mixed) // 2)
    assert all(each.path.name in each.reason for each in outcomes if isinstance(each, UnreadPicture))


def test_bad_ones_alone_ask_nothing_of_the_model(captioner, tmp_path):
    assert [len(batch) for batch in caption_files(captioner, [tmp_path / "absent.jpg"] * 3, batch_size=2)] == [2, 1]


def test_no_more_is_read_than_a_batch(captioner, paths):
    taken = []

    def endless():
        while True:
            taken.append(paths[0])
            yield paths[0]

    batches = caption_files(captioner, endless(), batch_size=3)
    for count in (1, 2):
        next(batches)
        assert len(taken) == 3 * count
    batches.close()


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"num_workers": 0}, {"num_beams": 0}])
def test_settings_out_of_range_are_refused(captioner, paths, setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        next(caption_files(captioner, paths, **setting))
