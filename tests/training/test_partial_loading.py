"""`strict=False`, and weights from elsewhere: what fits is taken, what was left is told, and nothing else changes."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from systems.pixel_llm import verified_files
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.models import PixelLLM, create_pixel_llm, load_weights_file
from systems.pixel_llm.training import CheckpointManager, checkpoint_loading


def net(width=3, **extra):
    torch.manual_seed(width)
    return nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(3, width)} | extra)


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_same(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def stepped(model):
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    return optimizer


def tiny(**settings):
    torch.manual_seed(len(settings))
    sizes = {
        "image_size": 16, "patch_size": 8, "vision_embed_dim": 16, "vocab_size": 300, "vision_num_layers": 1,
        "text_num_layers": 1, "max_seq_len": 16,
    }  # fmt: skip
    return create_pixel_llm(**(sizes | settings))


@pytest.fixture
def manager(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


# --- CheckpointManager ------------------------------------------------------------------------------------------------


def test_what_fits_is_taken_and_what_was_left_is_told(manager, caplog):
    saved = net(gone=nn.Linear(1, 1))
    manager.save("one", saved, stepped(saved), metric=0.5)
    for load in (manager.load_best, manager.load_latest, lambda *given, **more: manager.load("one", *given, **more)):
        live = net(width=5, new=nn.Linear(1, 1))
        optimizer = torch.optim.AdamW(live.parameters())
        before = state_of(live)
        with pytest.raises(CheckpointError, match=r"'b.weight' \(expected \[5, 3\], found \[3, 3\]\).*strict=False"):
            load(live, optimizer)
        assert is_same(live, before)
        caplog.clear()
        info = load(live, optimizer, strict=False)
        assert info["left"].pop("optimizer.safetensors").startswith(str(info["path"]))
        assert info["left"] == {
            "b.weight": "expected [5, 3], found [3, 3]",
            "b.bias": "expected [5], found [3]",
            "new.weight": "expected [1, 1], found none",
            "new.bias": "expected [1], found none",
            "gone.weight": "expected none, found [1, 1]",
            "gone.bias": "expected none, found [1]",
        }
        assert "'gone.weight' (expected none" in caplog.text
        assert torch.equal(live["a"].weight, saved["a"].weight)
        assert torch.equal(live["b"].weight, before["b.weight"])
        assert not optimizer.state


def test_where_all_fits_nothing_is_left_and_the_optimizer_is_taken(manager, caplog):
    saved = net()
    manager.save("one", saved, stepped(saved))
    live = net()
    optimizer = torch.optim.AdamW(live.parameters())
    assert manager.load("one", live, optimizer, strict=False)["left"] == {}
    assert len(optimizer.state) == 4
    assert not caplog.text


def test_an_optimizer_of_another_kind_is_left(manager):
    saved = net()
    manager.save("one", saved, stepped(saved))
    live = net()
    info = manager.load("one", live, torch.optim.SGD(live.parameters(), lr=0.1), strict=False)
    assert list(info["left"]) == ["optimizer.safetensors"]
    assert is_same(live, state_of(saved))


def test_a_damaged_one_is_never_taken_in_part(manager):
    path = manager.save("one", net())
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    with pytest.raises(CheckpointError, match="sha256 differs"):
        manager.load("one", net(), strict=False)


def test_a_model_that_reads_its_own_folder_is_taken_whole(manager):
    class Own(nn.Linear):
        def save_pretrained(self, folder):
            save_file({"weight": self.weight.detach()}, folder / "model.safetensors")

        def load_weights(self, folder, device=None):
            raise AssertionError

    manager.save("one", Own(2, 2))
    with pytest.raises(ConfigError, match="leave strict out"):
        manager.load("one", Own(2, 2), strict=False)


def test_what_was_loaded_outlives_the_files(manager):
    saved = net()
    path = manager.save("one", saved, stepped(saved), average={"x": torch.ones(3)})
    live = net()
    optimizer = torch.optim.AdamW(live.parameters())
    info = manager.load("one", live, optimizer)
    for file in path.iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    assert info["average"]["x"].tolist() == [1, 1, 1]
    assert all(state["step"] == 1 for state in optimizer.state.values())
    assert is_same(live, state_of(saved))


# --- PixelLLM ---------------------------------------------------------------------------------------------------------


def test_a_pixel_llm_of_other_sizes_takes_what_fits(manager):
    saved = tiny()
    saved.fit_tokenizer(["a red square", "a blue circle"] * 3)
    manager.save("one", saved, torch.optim.AdamW(saved.parameters()))
    live = tiny(text_num_layers=2, image_size=32)
    with pytest.raises(CheckpointError, match=r"text_num_layers=1 there, 2 here.*strict=False"):
        manager.load("one", live)
    before = state_of(live)
    left = manager.load("one", live, torch.optim.AdamW(live.parameters()), strict=False)["left"]
    assert {"config.json", "preprocessing.json", "optimizer.safetensors"} <= left.keys()
    assert left["encoder.position_embedding.weight"] == "expected [16, 16], found [4, 16]"
    assert left["config.json"].startswith("text_num_layers=1 there, 2 here; image_height_width")
    for name, value in live.state_dict().items():
        assert torch.equal(value, before[name] if name in left else saved.state_dict()[name]), name
    assert live.tokenizer.definition == saved.tokenizer.definition
    assert live.preprocessing.image_size == (32, 32)
    assert live.generate(torch.zeros(1, 3, 32, 32))


def test_a_vocabulary_whose_table_does_not_fit_is_left(tmp_path, caplog):
    saved = tiny(text_embed_dim=32, text_num_heads=1)
    saved.fit_tokenizer(["a red square"] * 3)
    saved.save_pretrained(tmp_path)
    live = tiny(text_num_heads=1)
    tokenizer = live.tokenizer
    left = live.load_weights(tmp_path, strict=False)
    assert left["tokenizer.json"] == "the embedding table of its tokens does not fit"
    assert live.tokenizer is tokenizer
    assert "tokenizer.json" in caplog.text


# --- a file from elsewhere --------------------------------------------------------------------------------------------


def test_a_plain_file_of_weights_is_taken(tmp_path, caplog):
    saved, live = net(), net()
    with torch.no_grad():
        saved["a"].weight.add_(1)
    save_file(state_of(saved), tmp_path / "model.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "model.safetensors")
    for path in (tmp_path / "model.safetensors", str(tmp_path), tmp_path / "link.safetensors"):
        parameter = live["a"].weight
        assert load_weights_file(live, path) == {}
        assert live["a"].weight is parameter
        assert is_same(live, state_of(saved))
    save_file({name: each.bfloat16() for name, each in state_of(saved).items()}, tmp_path / "half.safetensors")
    load_weights_file(live, tmp_path / "half.safetensors")
    assert live["a"].weight.dtype == torch.float32
    assert not caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("a.bias"), r"'a.bias' \(expected \[3\], found none\)"),
        (lambda state: state.update(c=torch.ones(2)), r"'c' \(expected none, found \[2\]\)"),
        (lambda state: state.update({"a.bias": torch.ones(4)}), r"'a.bias' \(expected \[3\], found \[4\]\)"),
        (
            lambda state: state.update({"a.bias": torch.ones(3, dtype=torch.int64)}),
            r"'a.bias' \(expected floating-point numbers, found I64\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_or_taken_in_part(tmp_path, change, message):
    live, state = net(), {name: value + 1 for name, value in state_of(net()).items()}
    before = state_of(live)
    change(state)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=f"does not fit this ModuleDict: {message}. Make the model with"):
        load_weights_file(live, tmp_path / "a.safetensors")
    assert is_same(live, before)
    left = load_weights_file(live, tmp_path / "a.safetensors", strict=False)
    assert len(left) == 1
    assert torch.equal(live["a"].weight, state["a.weight"])


def test_a_file_of_another_model_is_none_that_fits(tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="none of its tensors fits"):
        load_weights_file(net(), tmp_path / "a.safetensors", strict=False)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights_file(net(), tmp_path / "absent.safetensors")


def test_the_weights_of_a_pixel_llm_alone_are_taken_from_its_file(tmp_path):
    saved, live = tiny(), tiny()
    with torch.no_grad():
        saved.encoder.norm.weight.add_(1)
    saved.save_pretrained(tmp_path)
    assert live.load_weights(tmp_path / "model.safetensors") == {}
    assert is_same(live, state_of(saved))


# --- folders that hold what they should not ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "preprocessing.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_in_a_model_folder_is_refused(tmp_path, name, kind):
    folder = tmp_path / "model"
    tiny().save_pretrained(folder)
    if kind == "link":
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
    else:
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no pipes with names here")
        (folder / name).unlink()
        os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: it is not a plain file"):
        PixelLLM.from_pretrained(folder)


def test_a_link_in_a_checkpoint_and_a_link_to_one_are_refused(manager, tmp_path):
    path = manager.save("one", net())
    (manager.checkpoint_dir / "two").symlink_to(path)
    with pytest.raises(CheckpointError, match="two is a link"):
        manager.load("two", net())
    for name in ("MANIFEST.json", "model.safetensors"):
        (path / name).rename(tmp_path / name)
        (path / name).symlink_to(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name}.*not a plain file"):
            manager.load("one", net())
        (path / name).unlink()
        (tmp_path / name).rename(path / name)
    manager.load("one", net())


def test_a_file_far_larger_than_the_model_is_refused_without_its_memory(manager, monkeypatch):
    monkeypatch.setattr(checkpoint_loading, "_SMALL_BYTES", 1000)
    path = manager.save("one", nn.Linear(100, 100))
    reads = []
    new_memory = verified_files.new_memory
    monkeypatch.setattr(verified_files, "new_memory", lambda size: reads.append(size) or new_memory(size))
    with pytest.raises(CheckpointError, match=r"expected \[2, 2\], found \[100, 100\]"):
        manager.load("one", nn.Linear(2, 2))
    assert reads
    assert max(reads) < 1000 < (path / "model.safetensors").stat().st_size
