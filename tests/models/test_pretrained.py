"""A model as a folder: what comes back is what went in, and whatever is wrong with a folder is one clear error."""

import json
import pickletools
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.preprocessing import Preprocessing

CAPTIONS = ["a red square", "a blue circle", "a green triangle"] * 2
FILES = ["config.json", "model.safetensors", "preprocessing.json", "tokenizer.json"]


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model(tiny_model):
    """Fitted, with random weights and a picture preparation of its own."""
    model = tiny_model(vocab_size=600)
    model.fit_tokenizer(CAPTIONS)
    model.preprocessing = Preprocessing(image_size=(16, 24), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return model


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "runs" / "model")
    return tmp_path / "runs" / "model"


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model, state, tokenizer):
    assert model.tokenizer is tokenizer
    now = model.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in state.items())


# --- there and back ---------------------------------------------------------------------------------------------------


def test_the_folder_holds_four_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_loaded_model_is_the_same(model, folder, images):
    loaded = PixelLLM.from_pretrained(folder)
    assert loaded.config == model.config
    assert loaded.preprocessing == model.preprocessing
    assert not loaded.training
    assert all(each.requires_grad for each in loaded.parameters())
    assert torch.equal(loaded(images, CAPTIONS[:3]), model(images, CAPTIONS[:3]))
    assert loaded.generate(images) == model.generate(images)
    # A string names a folder too.
    assert PixelLLM.from_pretrained(str(folder)).generate(images) == model.generate(images)


def test_an_unfitted_model_comes_back_too(tiny_model, tmp_path, images):
    model = tiny_model(stem="conv", image_size=16)
    model.save_pretrained(tmp_path)
    loaded = PixelLLM.from_pretrained(tmp_path)
    assert not loaded.tokenizer.is_fitted
    square = images[:, :, :, :16]
    assert torch.equal(loaded(square, ["a", "b", "c"]), model(square, ["a", "b", "c"]))


def test_saving_again_replaces(model, folder, images, tiny_model):
    other = tiny_model()
    other.save_pretrained(folder)
    assert PixelLLM.from_pretrained(folder).generate(images) == other.generate(images)


def test_a_loaded_model_trains_on(folder, images):
    model = PixelLLM.from_pretrained(folder).train()
    model(images, CAPTIONS[:3]).square().mean().backward()
    assert all(each.grad is not None for each in model.parameters())


def test_weights_of_lower_precision_come_back_in_fp32(model, folder, images):
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    loaded = PixelLLM.from_pretrained(folder)
    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(images, CAPTIONS[:3]), model(images, CAPTIONS[:3]), atol=0.5, rtol=0.1)


def test_the_weights_are_all_there_is(tiny_model):
    """Loading fills what the state dict names; anything else of a new model would be whatever was in memory."""
    for stem in ("patch", "conv"):
        model = tiny_model(stem=stem)
        tensors = {*dict(model.named_parameters()), *dict(model.named_buffers())}
        assert set(model.state_dict()) == tensors


def test_loading_leaves_the_callers_generator_alone(model, folder):
    torch.manual_seed(9)
    before = torch.get_rng_state()
    PixelLLM.from_pretrained(folder)
    model.load_weights(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_in_the_folder_is_pickled(folder):
    assert (folder / "model.safetensors").read_bytes()[8:9] == b"{"
    for name in FILES:
        content = (folder / name).read_bytes()
        assert b"torch._utils" not in content
        with pytest.raises(Exception):  # noqa: B017 - pickletools raises many kinds
            list(pickletools.genops(content))


# --- load_weights -----------------------------------------------------------------------------------------------------


def test_weights_go_into_a_fresh_model_of_the_same_sizes(tiny_model, model, folder, images):
    fresh = tiny_model(is_random=False, vocab_size=600, dropout=0.3).train()
    table = fresh.decoder.token_embedding.weight
    assert len(table) == 600
    fresh.load_weights(folder)
    assert fresh.decoder.token_embedding.weight is table
    assert len(table) == model.num_embeddings < 600
    assert fresh.training
    assert fresh.config.dropout == 0.3
    assert fresh.generate(images) == model.generate(images)
    assert fresh.preprocessing == model.preprocessing


def test_the_table_grows_too(tiny_model, model, folder, images):
    small = tiny_model(vocab_size=260)
    small.load_weights(folder)
    assert small.num_embeddings == model.num_embeddings > 260
    assert small.generate(images) == model.generate(images)


def test_the_same_sizes_said_in_two_ways_are_the_same(tiny_model, tmp_path):
    tiny_model(
        image_size=16, vision_num_heads=None, vision_embed_dim=64, text_embed_dim=None, text_num_heads=None
    ).save_pretrained(tmp_path)
    other = tiny_model(
        image_size=(16, 16), vision_num_heads=1, vision_embed_dim=64, text_embed_dim=64, text_num_heads=1
    )
    other.load_weights(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vision_embed_dim": 64}, r"vision_embed_dim=32 there, 64 here"),
        ({"text_num_layers": 3}, r"text_num_layers=2 there, 3 here"),
        ({"image_size": (24, 16)}, r"image_height_width=\(16, 24\) there, \(24, 16\) here"),
        ({"vision_num_heads": 2}, r"vision_heads=4 there, 2 here"),  # fits every tensor, and would say nonsense
        ({"text_embed_dim": 48}, r"text_width=24 there, 48 here"),
        ({"stem": "conv", "mlp_ratio": 2.0}, r"stem=patch there, conv here; mlp_ratio=4.0 there, 2.0 here"),
        ({"max_seq_len": 20}, r"max_seq_len=16 there, 20 here"),
    ],
)
def test_other_sizes_are_named_and_nothing_changes(tiny_model, folder, settings, message):
    model = tiny_model(**settings)
    state, tokenizer = state_of(model), model.tokenizer
    with pytest.raises(CheckpointError, match=message):
        model.load_weights(folder)
    assert_unchanged(model, state, tokenizer)


# --- broken folders ---------------------------------------------------------------------------------------------------


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def change_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def truncate(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


TABLE = "decoder.token_embedding.weight"
NORM = "decoder.norm.weight"

DAMAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no model.*config.json"),
    "empty config": (lambda folder: (folder / "config.json").write_text(""), "config.json"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
    "config is deep": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json"),
    "config is huge": (lambda folder: truncate(folder / "config.json", 2**30), "larger than any model config"),
    "config is no text": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "config of another kind": (lambda folder: change_config(folder, model_type="vit"), "not the config of a Pixel LLM"),
    "unknown setting": (lambda folder: change_config(folder, patchsize=8), "config.json.*patch_size"),
    "bad setting": (lambda folder: change_config(folder, patch_size=7), "config.json.*patch_size=7"),
    "wrong kind of value": (lambda folder: change_config(folder, dropout="high"), "config.json.*dropout"),
    "a size beyond all memory": (lambda folder: change_config(folder, vision_embed_dim=10**9), "vision_embed_dim"),
    "more memory than there is": (
        lambda folder: change_config(folder, vision_embed_dim=60_000, vision_num_heads=1, mlp_ratio=64), "does not fit",
    ),
    "more layers than tensors": (lambda folder: change_config(folder, vision_num_layers=60_000), "layers"),
    "other size": (lambda folder: change_config(folder, text_num_layers=3), "does not fit.*config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "torn weights": (lambda folder: truncate(folder / "model.safetensors", 5000), "model.safetensors"),
    "weights with a huge head": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}"), "model.safetensors",
    ),
    "pickled weights": (
        lambda folder: torch.save({"decoder": torch.ones(2)}, folder / "model.safetensors"), "model.safetensors",
    ),
    "weights are a folder": (
        lambda folder: ((folder / "model.safetensors").unlink(), (folder / "model.safetensors").mkdir()),
        "model.safetensors",
    ),
    "a tensor is missing": (lambda folder: change_weights(folder, lambda each: each.pop(NORM)), f"{NORM}.*found none"),
    "a tensor too many": (
        lambda folder: change_weights(folder, lambda each: each.update(extra=torch.ones(2))), "'extra'.*expected none",
    ),
    "a tensor of another shape": (
        lambda folder: change_weights(folder, lambda each: each.update({NORM: torch.ones(25)})), NORM,
    ),
    "no table": (lambda folder: change_weights(folder, lambda each: each.pop(TABLE)), TABLE),
    "a table without rows": (
        lambda folder: change_weights(folder, lambda each: each.update({TABLE: torch.tensor(1.0)})), TABLE,
    ),
    "a table of another width": (
        lambda folder: change_weights(folder, lambda each: each.update({TABLE: torch.ones(320, 23)})), TABLE,
    ),
    "too few embeddings": (
        lambda folder: change_weights(folder, lambda each: each.update({TABLE: each[TABLE][:100].clone()})),
        "100 embeddings for a tokenizer of",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    "no preprocessing": (lambda folder: (folder / "preprocessing.json").unlink(), "preprocessing.json"),
    "broken preprocessing": (lambda folder: (folder / "preprocessing.json").write_text("{}}"), "preprocessing.json"),
    "pictures of another size": (
        lambda folder: Preprocessing(image_size=(32, 32)).save(folder), r"preprocessing.json.*\(32, 32\).*\(16, 24\)",
    ),
    "no folder": (shutil.rmtree, "holds no model"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_clear_error_and_changes_nothing(model, folder, damage):
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        PixelLLM.from_pretrained(folder)
    state, tokenizer = state_of(model), model.tokenizer
    with pytest.raises(CheckpointError):
        model.load_weights(folder)
    assert_unchanged(model, state, tokenizer)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError):
        PixelLLM.from_pretrained(tmp_path / "model")
