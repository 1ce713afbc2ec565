"""CLIPScore and RefCLIPScore with a tiny CLIP of random weights, against the formula computed plainly."""

import json
import shutil
import socket
import sys

import pytest
import torch
from PIL import Image

from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.clip_score import clip_scores

CONTEXT = 40
"""Tokens that the tiny model reads; each letter is one, and so are the begin and the end."""
SEED = 1
"""One with which the cosines of captions to pictures are positive."""
CAPTIONS = ["a red square", "a blue circle", "a red square", "a caption that is far longer than the context of it"]
REFERENCES = [["the red square", "a square"], ["blue"], ["a blue circle"], ["a circle", "round", "a ring"]]


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="transformers, the extra `clip`, is not installed")


@pytest.fixture(scope="module")
def clip_folder(transformers, tmp_path_factory):
    """A CLIP model as a folder: two layers, 16 wide, a token a letter."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(97 + index) for index in range(26)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    begin, end = len(words) - 2, len(words) - 1
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(words), "bos_token_id": begin, "eos_token_id": end, "pad_token_id": end, **sizes}
    config = transformers.CLIPConfig(
        text_config={"max_position_embeddings": CONTEXT, **text},
        vision_config={"image_size": 32, "patch_size": 8, **sizes},
        projection_dim=8,
    )
    torch.manual_seed(SEED)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(clip_folder, tmp_path):
    return shutil.copytree(clip_folder, tmp_path / "clip")


@pytest.fixture
def pictures(tiny_picture_folder):
    """Three files and a picture that is open, of another size and kind."""
    folder = tiny_picture_folder(count=3, size=(48, 32), text=False)
    return [*map(str, sorted(folder.iterdir())), Image.effect_noise((40, 64), 80)]


def cosines(transformers, folder, pictures, texts):
    """[pictures + texts] x [texts]: cosines between vectors that come from the model one input at a time."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    opened = [each if isinstance(each, Image.Image) else Image.open(each) for each in pictures]
    vectors = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer("A photo depicts " + text)["input_ids"]
            ids = torch.tensor([[*ids[: CONTEXT - 1], ids[-1]]]) if len(ids) > CONTEXT else torch.tensor([ids])
            vectors.append(model.text_projection(model.text_model(input_ids=ids).pooler_output)[0])
        for picture in opened:
            pixels = processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
            vectors.append(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0])
    stacked = torch.nn.functional.normalize(torch.stack(vectors).double(), dim=1)
    all_pairs = (stacked @ stacked.T).numpy()
    return all_pairs[len(texts) :, : len(texts)], all_pairs[: len(texts), : len(texts)]


def test_equal_to_the_formula(transformers, clip_folder, pictures):
    found = clip_scores(pictures, CAPTIONS, REFERENCES, folder=clip_folder, device="cpu", batch_size=3)
    references = [text for each in REFERENCES for text in each]
    to_pictures, to_texts = cosines(transformers, clip_folder, pictures, CAPTIONS + references)
    of_references = iter(range(len(CAPTIONS), len(CAPTIONS) + len(references)))
    clip_score, ref_clip_score = [], []
    for index, each in enumerate(REFERENCES):
        score = 2.5 * max(to_pictures[index, index], 0)
        best = max(0, *(to_texts[index, next(of_references)] for _ in each))
        clip_score.append(score)
        ref_clip_score.append(2 * score * best / (score + best) if score + best else 0)
    assert found.clip_score == pytest.approx(clip_score, abs=1e-5)
    assert found.ref_clip_score == pytest.approx(ref_clip_score, abs=1e-5)
    assert len(set(found.clip_score.round(6))) == 4
    assert found.library == f"transformers-{transformers.__version__}"


def test_of_opposite_vectors_the_scores_are_0(transformers, copied, pictures):
    model = transformers.CLIPModel.from_pretrained(copied)
    plain = clip_scores(pictures, CAPTIONS, REFERENCES, folder=copied, device="cpu")
    with torch.no_grad():
        model.visual_projection.weight.neg_()
    model.save_pretrained(copied)
    found = clip_scores(pictures, CAPTIONS, REFERENCES, folder=copied, device="cpu")
    turned = plain.clip_score > 0
    assert turned.any()
    assert found.clip_score[turned].tolist() == found.ref_clip_score[turned].tolist() == [0] * turned.sum()
    assert found.weights != plain.weights


def test_a_batch_changes_nothing(clip_folder, pictures):
    one, other = (
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=clip_folder, device="cpu", batch_size=size)
        for size in (1, 4)
    )
    assert one.clip_score == pytest.approx(other.clip_score, abs=1e-6)
    assert one.weights == other.weights


def test_nothing_reaches_for_the_network_and_nothing_is_shown(clip_folder, pictures, monkeypatch, capfd):
    tried = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: tried.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **rest: tried.append(address))
    clip_scores(pictures, CAPTIONS, REFERENCES, folder=clip_folder, device="cpu")
    with pytest.raises(NotComputedError):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder="openai/clip-vit-base-patch32", device="cpu")
    assert tried == []
    assert capfd.readouterr() == ("", "")


def test_the_reason_without_a_folder(tmp_path, pictures):
    with pytest.raises(NotComputedError, match=r"cannot read .*config\.json: .*Expected a folder with config\.json"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=tmp_path / "nowhere")


def test_the_reason_for_another_model(tmp_path, pictures):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(NotComputedError, match="holds one of type 'bert'"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=tmp_path)


def test_pickled_weights_are_not_read(tmp_path, pictures):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(NotComputedError, match=r"found no \*\.safetensors .*because they can run code"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=tmp_path)


def test_the_reason_without_transformers(tmp_path, pictures, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NotComputedError, match=r"Run: pip install 'pixel-llm\[clip\]'"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json", "tokenizer.json", "config.json"])
def test_the_reason_for_a_damaged_folder(copied, pictures, name):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(NotComputedError, match=r"CLIPScore cannot (load|read)"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=copied)


def test_weights_that_are_not_all_there(copied, pictures):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotComputedError, match=r"its weights lack visual_projection\.weight and 0 others"):
        clip_scores(pictures, CAPTIONS, REFERENCES, folder=copied)


def test_the_reason_for_a_picture_that_cannot_be_read(clip_folder, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(NotComputedError, match=r"needs every picture\. .*broken\.jpg"):
        clip_scores([*pictures[:3], str(tmp_path / "broken.jpg")], CAPTIONS, REFERENCES, folder=clip_folder)


def test_as_many_pictures_as_captions(clip_folder, pictures):
    with pytest.raises(ValueError, match="found 1 pictures, 4 captions"):
        clip_scores(pictures[:1], CAPTIONS, REFERENCES, folder=clip_folder)
