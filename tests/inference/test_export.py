"""An exported folder holds the model and nothing more, says the same, and is there whole or not at all."""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from systems.pixel_llm import whole_folder
from systems.pixel_llm.errors import CheckpointError, ConfigError, PixelLLMError
from systems.pixel_llm.inference import Captioner, export
from systems.pixel_llm.inference.export import DTYPES, export_model
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import CheckpointManager

NAMES = ["README.md", "config.json", "model.safetensors", "preprocessing.json", "tokenizer.json"]


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of an untrained model with weights large enough that what it says hangs on the picture."""
    torch.manual_seed(1)
    model = create_pixel_llm(
        image_size=(16, 24), patch_size=8, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1,
        vocab_size=320, max_seq_len=12,
    )  # fmt: skip
    model.fit_tokenizer(["a red square on the left", "a blue circle on the right"] * 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    optimizer = torch.optim.AdamW(model.parameters())
    manager = CheckpointManager(tmp_path / "checkpoints")
    return manager.save(checkpoint_name="epoch_1", model=model, optimizer=optimizer, epoch=1, metric=0.5)


def write_card(exported):
    return f"# {exported.dtype}\n"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_folder_holds_the_model_as_that_type_and_nothing_of_the_training(checkpoint, tmp_path, dtype):
    out = tmp_path / "deep" / "out"
    exported = export_model(checkpoint, out, write_card=write_card, dtype=dtype)
    assert names_in(out) == NAMES
    assert names_in(out.parent) == ["out"]
    assert (out / "README.md").read_text() == f"# {dtype}\n"
    assert len({(out / name).stat().st_mode for name in NAMES}) == 1  # whoever may read one may read all
    stored, trained = load_file(out / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert stored.keys() == trained.keys()
    assert {tensor.dtype for tensor in stored.values()} == {DTYPES[dtype]}
    assert all(torch.equal(stored[name], trained[name].to(DTYPES[dtype])) for name in trained)
    assert exported.num_parameters == sum(tensor.numel() for tensor in trained.values())
    assert exported.num_bytes == sum((out / name).stat().st_size for name in NAMES[1:])
    loaded = PixelLLM.from_pretrained(out)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert loaded.tokenizer.definition == PixelLLM.from_pretrained(checkpoint).tokenizer.definition


def test_it_captions_to_the_letter_as_the_checkpoint_does(checkpoint, tmp_path, tiny_picture_folder):
    pictures = sorted(tiny_picture_folder(text=False).iterdir())
    export_model(checkpoint, tmp_path / "out", write_card=write_card)
    captions = Captioner.from_checkpoint(checkpoint).caption(pictures)
    assert len(set(captions)) > 1
    assert Captioner.from_checkpoint(tmp_path / "out").caption(pictures) == captions


def test_an_exported_folder_can_be_exported_again(checkpoint, tmp_path):
    export_model(checkpoint, tmp_path / "first", write_card=write_card)
    export_model(tmp_path / "first", tmp_path / "second", write_card=write_card)
    assert (tmp_path / "first/model.safetensors").read_bytes() == (tmp_path / "second/model.safetensors").read_bytes()


def test_an_empty_folder_is_filled(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    export_model(checkpoint, tmp_path / "out", write_card=write_card)
    assert names_in(tmp_path / "out") == NAMES


def test_an_exported_model_is_replaced_only_when_asked_for(checkpoint, tmp_path):
    out = tmp_path / "out"
    export_model(checkpoint, out, write_card=write_card)
    with pytest.raises(PixelLLMError, match=r"holds an exported model\. Add --overwrite"):
        export_model(checkpoint, out, write_card=write_card, dtype="bf16")
    assert (out / "README.md").read_text() == "# fp32\n"
    export_model(checkpoint, out, write_card=write_card, dtype="bf16", overwrite=True)
    assert (out / "README.md").read_text() == "# bf16\n"
    assert names_in(tmp_path) == ["checkpoints", "out"]


def put_a_note(out):
    (out / "thesis.txt").write_text("precious")


def put_a_folder(out):
    (out / ".git").mkdir()


def take_the_config(out):
    (out / "config.json").unlink()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [(put_a_note, "'thesis.txt'"), (put_a_folder, "'.git'"), (take_the_config, "no whole model")],
)
def test_what_holds_anything_else_is_never_replaced(checkpoint, tmp_path, change, wanted):
    out = tmp_path / "out"
    export_model(checkpoint, out, write_card=write_card)
    change(out)
    before = names_in(out)
    with pytest.raises(PixelLLMError, match=f"{wanted}.* is never replaced"):
        export_model(checkpoint, out, write_card=write_card, overwrite=True)
    assert names_in(out) == before


def test_a_file_a_link_and_the_model_itself_are_refused(checkpoint, tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name, wanted in (("file", "is a file"), ("link", "is a link")):
        with pytest.raises(PixelLLMError, match=wanted):
            export_model(checkpoint, tmp_path / name, write_card=write_card, overwrite=True)
    with pytest.raises(ConfigError, match="is the model to export"):
        export_model(checkpoint, checkpoint, write_card=write_card, overwrite=True)


@pytest.mark.parametrize("has_old", [True, False])
def test_an_export_that_fails_leaves_what_was_there(checkpoint, tmp_path, monkeypatch, has_old):
    out = tmp_path / "out"
    if has_old:
        export_model(checkpoint, out, write_card=write_card)

    def fail(exported):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(checkpoint, out, write_card=fail, overwrite=True)
    assert names_in(tmp_path) == (["checkpoints", "out"] if has_old else ["checkpoints"])


def test_weights_that_come_back_otherwise_are_not_kept(checkpoint, tmp_path, monkeypatch):
    save = PixelLLM.save_pretrained

    def save_and_spoil(model, folder, **settings):
        save(model, folder, **settings)
        weights = load_file(folder / "model.safetensors")
        weights["encoder.position_embedding.weight"][0, 0] += 1
        save_file(weights, folder / "model.safetensors")

    monkeypatch.setattr(PixelLLM, "save_pretrained", save_and_spoil)
    with pytest.raises(PixelLLMError, match=r"does not read as it should: encoder\.position_embedding\.weight differ"):
        export_model(checkpoint, tmp_path / "out", write_card=write_card)
    assert names_in(tmp_path) == ["checkpoints"]


def test_a_file_that_is_missing_or_empty_is_not_passed_on(checkpoint, tmp_path):
    with pytest.raises(PixelLLMError, match="expected to have written"):
        export_model(checkpoint, tmp_path / "out", write_card=lambda exported: "")
    assert names_in(tmp_path) == ["checkpoints"]


def test_a_damaged_checkpoint_is_refused(checkpoint, tmp_path):
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="sha256 differs"):
        export_model(checkpoint, tmp_path / "out", write_card=write_card)


def with_weight(checkpoint, folder, value):
    """A model folder like the checkpoint's with one other weight."""
    model = PixelLLM.from_pretrained(checkpoint)
    with torch.no_grad():
        model.encoder.position_embedding.weight[0, 0] = value
    model.save_pretrained(folder)
    return folder


def test_weights_too_large_for_fp16_are_told_and_go_as_bf16(checkpoint, tmp_path):
    large = with_weight(checkpoint, tmp_path / "large", 70_000.0)
    with pytest.raises(ConfigError, match=r"holds 70000, which is too large for fp16\. Use bf16"):
        export_model(large, tmp_path / "out", write_card=write_card, dtype="fp16")
    assert not (tmp_path / "out").exists()
    export_model(large, tmp_path / "out", write_card=write_card, dtype="bf16")


def test_weights_that_are_no_numbers_are_refused(checkpoint, tmp_path):
    broken = with_weight(checkpoint, tmp_path / "broken", float("nan"))
    with pytest.raises(CheckpointError, match="no numbers"):
        export_model(broken, tmp_path / "out", write_card=write_card)


def test_an_unknown_type_is_refused(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="fp32, bf16, fp16, not 'int8'"):
        export_model(checkpoint, tmp_path / "out", write_card=write_card, dtype="int8")


def test_what_a_killed_export_left_is_put_right_and_nothing_else_is_touched(checkpoint, tmp_path):
    out = tmp_path / "out"
    export_model(checkpoint, out, write_card=write_card)
    out.rename(tmp_path / ".old-out")  # killed between the two renames
    own = whole_folder._hidden_name(".tmp-", "out")
    dead = own.replace(f"-{os.getpid()}-", "-0-", 1).replace(whole_folder._TOKEN, "0123abcd")
    others = [".tmp-out-of-another-program", ".old-outside"]
    for name in (own, dead, *others):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / dead, (0, 0))
    with pytest.raises(PixelLLMError, match="holds an exported model"):
        export_model(checkpoint, out, write_card=write_card)
    assert names_in(tmp_path) == sorted([own, *others, "checkpoints", "out"])
    shutil.copytree(out, tmp_path / ".old-out")  # killed after the second
    export_model(checkpoint, out, write_card=write_card, overwrite=True)
    assert names_in(tmp_path) == sorted([own, *others, "checkpoints", "out"])


def test_the_names_of_the_files_are_those_that_are_written(checkpoint, tmp_path):
    assert sorted(export._FILES) == NAMES
