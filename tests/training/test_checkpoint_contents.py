"""What goes into a checkpoint comes out again: training goes on bit for bit, and what does not fit changes nothing."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from systems.pixel_llm.checkpoint_folder import write_manifest
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.checkpoint import CheckpointManager
from systems.pixel_llm.training.checkpoint_contents import FolderModel


class Net(nn.Module):
    """Tied weights, a buffer, a parameter that is not contiguous, and one of size zero."""

    def __init__(self, vocabulary=6, width=4, *, tied=True):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Parameter(torch.randn(width, width).t())
        self.empty = nn.Parameter(torch.zeros(0, width))

    def forward(self, ids):
        return self.head(self.norm(self.embedding(ids) @ self.mix))


def make(seed=0, optimizer=torch.optim.AdamW, **settings):
    torch.manual_seed(seed)
    model = Net(**settings)
    options = {"fused": True} if optimizer is torch.optim.AdamW else {}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return model, optimizer(groups, lr=1e-2, **options)


def train(model, optimizer, steps, *, start=0):
    for step in range(start, start + steps):
        ids = torch.randint(0, 6, (8,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(ids), ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def snapshot(model, optimizer=None):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    for index, state in (optimizer.state_dict()["state"] if optimizer else {}).items():
        tensors |= {f"{index}.{key}": value.clone() for key, value in state.items()}
    return tensors


def is_equal(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def manager(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


# --- save and load ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_training_goes_on_bit_for_bit_after_a_load(manager, steps, kind):
    model, optimizer = make(optimizer=kind)
    train(model, optimizer, steps)
    saved = snapshot(model, optimizer)
    manager.save("a", model, optimizer, epoch=2, metric=0.5)
    train(model, optimizer, 3, start=steps)

    resumed, its_optimizer = make(seed=1, optimizer=kind)
    train(resumed, its_optimizer, 1)  # state of its own, to be replaced
    parameters = list(resumed.parameters())
    info = manager.load("a", resumed, its_optimizer)
    assert is_equal(snapshot(resumed, its_optimizer), saved)
    assert all(one is other for one, other in zip(parameters, resumed.parameters(), strict=True))
    train(resumed, its_optimizer, 3, start=steps)
    assert is_equal(snapshot(resumed, its_optimizer), snapshot(model, optimizer))
    assert info["epoch"] == 2


def test_step_stays_float32_in_a_bfloat16_model(manager):
    model, optimizer = make()
    model.bfloat16()
    train(model, optimizer, 2)
    manager.save("a", model, optimizer)
    train(model, optimizer, 2, start=2)
    resumed, its_optimizer = make(seed=1)
    resumed.bfloat16()
    manager.load("a", resumed, its_optimizer)
    assert all(state["step"].dtype == torch.float32 for state in its_optimizer.state.values())
    train(resumed, its_optimizer, 2, start=2)
    assert is_equal(snapshot(resumed, its_optimizer), snapshot(model, optimizer))


def test_how_the_optimizer_computes_stays_as_it_was_made(manager):
    model, optimizer = make()
    train(model, optimizer, 1)
    manager.save("a", model, optimizer)
    unfused = torch.optim.AdamW([{"params": g["params"]} for g in optimizer.param_groups], lr=1.0, foreach=False)
    manager.load("a", model, unfused)
    assert unfused.param_groups[0]["fused"] is None
    assert unfused.param_groups[0]["foreach"] is False
    assert unfused.param_groups[0]["lr"] == 1e-2
    train(model, unfused, 1)


def test_tied_weights_are_stored_once_and_come_back_tied_or_untied(manager):
    model, _ = make()
    path = manager.save("a", model)
    assert "head.weight" not in load_file(path / "model.safetensors")
    tied, _ = make(seed=1)
    manager.load("a", tied)
    assert tied.head.weight is tied.embedding.weight
    assert is_equal(snapshot(tied), snapshot(model))
    untied, _ = make(seed=1, tied=False)
    manager.load("a", untied)
    assert is_equal(snapshot(untied), snapshot(model))


def test_views_into_one_memory_are_stored_each(manager):
    whole = torch.arange(12.0)
    model = nn.Module()
    model.register_buffer("all", whole)
    model.register_buffer("front", whole[:5])
    model.register_buffer("middle", whole[3:9].view(2, 3).t())
    manager.save("a", model)
    other = nn.Module()
    for name, shape in (("all", (12,)), ("front", (5,)), ("middle", (3, 2))):
        other.register_buffer(name, torch.zeros(shape))
    manager.load("a", other)
    assert is_equal(snapshot(other), snapshot(model))


def test_wrappers_are_seen_through(manager):
    model, optimizer = make()
    path = manager.save("a", nn.DataParallel(torch.compile(model)), optimizer)
    assert "embedding.weight" in load_file(path / "model.safetensors")
    other, its_optimizer = make(seed=1)
    manager.load("a", torch.compile(other), its_optimizer)
    assert is_equal(snapshot(other), snapshot(model))


def test_a_model_with_a_folder_format_writes_and_reads_itself(manager):
    class Resizing(nn.Embedding):
        """As PixelLLM: loading resizes the embedding in place."""

        def save_pretrained(self, folder):
            save_file({"weight": self.weight.detach()}, folder / "model.safetensors")
            (folder / "config.json").write_text("{}")

        def load_weights(self, folder, device=None):
            self.weight.data = load_file(folder / "model.safetensors", device=str(device or "cpu"))["weight"].clone()

    def made(rows):
        model = Resizing(rows, 2)
        return model, torch.optim.AdamW(model.parameters(), fused=True)

    model, optimizer = made(3)
    assert isinstance(model, FolderModel)
    model.weight.sum().backward()
    optimizer.step()
    path = manager.save("a", model, optimizer)
    assert (path / "config.json").exists()
    larger, its_optimizer = made(10)
    manager.load("a", larger, its_optimizer)
    assert is_equal(snapshot(larger, its_optimizer), snapshot(model, optimizer))
    assert its_optimizer.param_groups[0]["params"][0] is larger.weight


def test_no_pickle_is_used(manager, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    model, optimizer = make()
    train(model, optimizer, 1)
    manager.save("a", model, optimizer, training_state={"x": 1})
    manager.load_latest(model, optimizer)
    assert names_in(manager.checkpoint_dir / "a") == [
        "MANIFEST.json", "model.safetensors", "optimizer.safetensors", "training_state.json",
    ]  # fmt: skip


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["shape", "missing", "unexpected", "optimizer kind", "order", "groups", "no optimizer"]
)
def test_what_does_not_fit_changes_nothing_and_is_named(manager, change):
    model, optimizer = make()
    train(model, optimizer, 2)
    manager.save("a", model, None if change == "no optimizer" else optimizer)
    other, its_optimizer = make(seed=1, vocabulary=7 if change == "shape" else 6)
    expected = {
        "shape": r"'embedding.weight' \(expected \[7, 4\], found \[6, 4\]\)",
        "missing": r"'extra' \(expected \[1\], found none\)",
        "unexpected": r"'mix' \(expected none, found \[4, 4\]\)",
        "optimizer kind": "state of AdamW, and this optimizer is SGD",
        "order": r"parameter 0 is mix \[4, 4\] there and embedding.weight \[6, 4\] here",
        "groups": r"groups have \[3, 2\] parameters, and this optimizer's have \[5\]",
        "no optimizer": "saved without an optimizer. Pass optimizer=None",
    }[change]
    if change == "missing":
        other.extra = nn.Parameter(torch.zeros(1))
    elif change == "unexpected":
        del other.mix
    elif change == "optimizer kind":
        its_optimizer = torch.optim.SGD(other.parameters(), lr=1e-3)
    elif change == "order":
        groups = [
            [other.embedding.weight, other.mix, other.empty],
            [other.norm.bias, other.norm.weight],
        ]
        its_optimizer = torch.optim.AdamW([{"params": group} for group in groups])
    elif change == "groups":
        its_optimizer = torch.optim.AdamW(other.parameters())
    before = snapshot(other, its_optimizer)
    with pytest.raises(CheckpointError, match=expected):
        manager.load("a", other, its_optimizer)
    assert is_equal(snapshot(other, its_optimizer), before)


def test_optimizer_state_of_another_shape_than_its_parameter_is_refused(manager):
    model, optimizer = make()
    train(model, optimizer, 1)
    optimizer.state[model.embedding.weight]["exp_avg"] = torch.zeros(9, 4)
    manager.save("a", model, optimizer)
    with pytest.raises(CheckpointError, match=r"exp_avg of embedding.weight has shape \[9, 4\]"):
        manager.load("a", *make())


def test_what_cannot_be_saved_is_refused_and_leaves_no_trace(manager):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"count": 1}

    manager.save("a", make()[0])
    with pytest.raises(CheckpointError, match="'_extra_state' in its state dict is a dict"):
        manager.save("b", Extra(2, 2))
    with pytest.raises(CheckpointError, match="training_state/x: a object"):
        manager.save("b", make()[0], training_state={"x": object()})
    with pytest.raises(CheckpointError, match="training_state/x is a tensor"):
        manager.save("b", make()[0], training_state={"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="complex128"):
        manager.save("b", nn.ParameterDict({"x": torch.zeros(1, dtype=torch.complex128)}))
    assert names_in(manager.checkpoint_dir) == ["a"]


# --- hostile folders --------------------------------------------------------------------------------------------------


def test_a_hostile_folder_with_a_right_manifest_is_refused(manager):
    model, optimizer = make()
    train(model, optimizer, 1)
    path = manager.save("a", model, optimizer)
    before = snapshot(model, optimizer)
    originals = {each.name: each.read_bytes() for each in path.iterdir()}
    state = json.loads(originals["training_state.json"])
    no_such_tensor = {"class": "AdamW", "parameters": [], "state": {"$tensor": "x"}}
    hostile = [
        ("model.safetensors", b"\xff" * 8 + b"{}"),
        ("model.safetensors", pickle.dumps({"x": 1})),
        ("optimizer.safetensors", originals["model.safetensors"]),
        ("training_state.json", b"[" * 100_000),
        ("training_state.json", b"{}"),
        ("training_state.json", json.dumps(state | {"optimizer": []}).encode()),
        ("training_state.json", json.dumps(state | {"optimizer": no_such_tensor}).encode()),
        ("training_state.json", json.dumps(state | {"optimizer": {"class": "AdamW"}}).encode()),
    ]
    for name, content in hostile:
        for each, original in originals.items():
            (path / each).write_bytes(original)
        (path / "MANIFEST.json").unlink()
        (path / name).write_bytes(content)
        write_manifest(path, "a", sequence=1, epoch=0, metric=None, keep=False)
        with pytest.raises(CheckpointError):
            manager.load("a", model, optimizer)
        assert is_equal(snapshot(model, optimizer), before)


def test_hostile_aliases_are_refused(manager):
    model, _ = make()
    path = manager.save("a", model)
    for aliases in ("[", "[]", '{"head.weight": "absent"}', '{"head.weight": ["mix"]}'):
        (path / "MANIFEST.json").unlink()
        with safe_open(path / "model.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        save_file(tensors, path / "model.safetensors", metadata={"aliases": aliases})
        write_manifest(path, "a", sequence=1, epoch=0, metric=None, keep=False)
        with pytest.raises(CheckpointError):
            manager.load("a", model)
