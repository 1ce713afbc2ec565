"""The captioner: paths and pictures of any kind in, captions out, prepared as in training."""

import numpy as np
import pytest
import torch
from PIL import Image

from systems.pixel_llm.data import ImageCaptionDataset
from systems.pixel_llm.errors import CheckpointError, ConfigError, DatasetError
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.models.precision import resolve_precision
from systems.pixel_llm.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def model():
    """Random weights: what it says is nonsense that hangs on every pixel."""
    torch.manual_seed(1)
    model = create_pixel_llm(
        image_size=(16, 24), patch_size=8, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1,
        vocab_size=320, max_seq_len=12,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.preprocessing = Preprocessing(image_size=(16, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return model


@pytest.fixture
def captioner(model):
    return Captioner(model)


@pytest.fixture
def paths(tiny_picture_folder):
    folder = tiny_picture_folder(count=7, text=False)
    return sorted(folder.iterdir())


def test_one_picture_gives_one_caption_and_several_give_a_list(captioner, paths):
    captions = captioner.caption(paths)
    assert isinstance(captions, list)
    assert len(captions) == 7
    assert len(set(captions)) > 1
    for path, caption in zip(paths, captions, strict=True):
        assert captioner.caption(path) == caption
        assert captioner.caption(str(path)) == caption
        assert captioner.caption([path]) == [caption]
    assert captioner.caption(tuple(map(str, paths))) == captions
    assert captioner.caption([]) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_the_batch_size_does_not_matter(captioner, paths, batch_size):
    assert captioner.caption(paths, batch_size=batch_size) == captioner.caption(paths)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_nothing_is_refused(captioner, paths, batch_size):
    with pytest.raises(ConfigError, match="batch_size"):
        captioner.caption(paths, batch_size=batch_size)


def test_a_picture_and_its_file_say_the_same(captioner, paths):
    pictures = [Image.open(path) for path in paths]
    assert captioner.caption(pictures) == captioner.caption(paths)
    assert captioner.caption(pictures[0]) == captioner.caption(paths[0])
    assert captioner.caption([paths[0], pictures[1]]) == captioner.caption(paths[:2])


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"]
)
def test_a_picture_of_any_mode(captioner, mode):
    gradient = Image.fromarray(np.linspace(0, 255, 40 * 30, dtype=np.uint8).reshape(30, 40))
    if mode == "PA":
        picture = gradient.convert("LA").convert("PA")
    elif mode == "LAB":
        picture = Image.merge("LAB", [gradient] * 3)
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(gradient).astype(np.uint16) * 257)
    else:
        picture = gradient.convert(mode)
    assert picture.mode == mode
    assert isinstance(captioner.caption(picture), str)


def test_transparent_ground_counts_as_white(captioner):
    drawn = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    drawn.paste((200, 30, 30, 255), (10, 5, 30, 25))
    on_white = Image.new("RGB", (40, 30), "white")
    on_white.paste((200, 30, 30), (10, 5, 30, 25))
    assert captioner.caption(drawn) == captioner.caption(on_white)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_model_sees_the_pixels_that_training_saw(model, tmp_path, monkeypatch, kind):
    """Also of a large JPEG, which is decoded at a part of its size."""
    noise = np.random.default_rng(0).integers(0, 255, (160, 240, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC)
    picture.save(tmp_path / f"noise.{kind}")
    (tmp_path / "noise.txt").write_text("noise")
    dataset = ImageCaptionDataset(tmp_path, image_size=(16, 24))

    seen = []
    monkeypatch.setattr(model, "preprocessing", dataset.preprocessing)
    handle = model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    Captioner(model).caption(tmp_path / f"noise.{kind}")
    handle.remove()
    assert torch.equal(seen[0][0], dataset[0]["image"])


def test_the_settings_of_generate_pass_through(captioner, paths):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return captioner.caption(paths, do_sample=True, temperature=2.0, generator=generator)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    short = captioner.caption(paths, max_length=1)
    assert all(len(caption.encode()) <= 3 for caption in short)
    with pytest.raises(ConfigError, match="max_length"):
        captioner.caption(paths, max_length=13)
    with pytest.raises(ConfigError, match=r"max_lenght.*max_length"):
        captioner.caption(paths, max_lenght=5)


def test_a_picture_that_cannot_be_read_is_named(captioner, paths, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"broken\.png"):
        captioner.caption([paths[0], tmp_path / "broken.png"])
    with pytest.raises(DatasetError, match=r"missing\.png"):
        captioner.caption(tmp_path / "missing.png")


def test_from_a_folder(model, captioner, paths, tmp_path):
    model.save_pretrained(tmp_path / "model")
    for device in (None, "cpu", torch.device("cpu")):
        loaded = Captioner.from_checkpoint(str(tmp_path / "model"), device=device)
        assert isinstance(loaded.model, PixelLLM)
        assert loaded.model.preprocessing == model.preprocessing
        if device is not None:
            plain = Captioner.from_checkpoint(tmp_path / "model", device=device, precision="fp32")
            assert plain.caption(paths) == captioner.caption(paths)


def test_precision_is_of_the_weights_and_hardly_of_the_captions(model, captioner, paths, tmp_path):
    model.save_pretrained(tmp_path / "model")

    def load(precision):
        return Captioner.from_checkpoint(tmp_path / "model", device="cpu", precision=precision)

    rounded = load("bf16")
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in load("fp32").model.parameters()} == {torch.float32}
    fast = resolve_precision("auto", torch.device("cpu"))
    assert load("auto").model.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[fast]
    with pytest.raises(ConfigError, match="precision must be"):
        load("int8")
    # One token, whose probability is to be the same but for rounding.
    for one, other in zip(
        rounded.caption_scored(paths, max_length=1), captioner.caption_scored(paths, max_length=1), strict=True
    ):
        assert one[0].log_probability == pytest.approx(other[0].log_probability, abs=0.1)
    assert rounded.caption(paths, num_beams=3, max_length=8)  # every way works in it
    assert rounded.caption(paths, do_sample=True)


def test_from_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        Captioner.from_checkpoint(tmp_path / "nothing")


def test_dropout_is_off(model, paths):
    assert Captioner(model.train()).caption(paths) == Captioner(model.train()).caption(paths)
