"""`batch_size="auto"`: the largest size that fits, found without a trace in the model or in what is drawn later."""

import logging
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from systems.pixel_llm.data import ImageCaptionDataset
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.tokenizer import IGNORE_INDEX
from systems.pixel_llm.training import find_batch_size, free_memory, trial_steps
from systems.pixel_llm.training.batch_size_search import largest_fitting
from systems.pixel_llm.training.options import TrainingOptions
from systems.pixel_llm.training.trial_steps import TrialSteps, expected_to_fit
from systems.pixel_llm.training.worst_batch import WorstBatch

MIB = 2**20


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """600 small pictures, of which each tenth has three captions, and one has a long caption."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(600):
        Image.new("RGB", (8, 8), (number % 256, 40, 90)).save(folder / f"{number:03}.png")
        captions = [f"a colour of number {number}"] * (3 if number % 10 == 0 else 1)
        if number == 77:
            captions = ["a colour that takes a good many more words to tell of than any other one does"]
        (folder / f"{number:03}.txt").write_text("\n".join(captions), encoding="utf-8")
    return folder


def dataset_of(pictures, **settings):
    return ImageCaptionDataset(pictures, image_size=(32, 32), captions_per_file="lines", **settings)


@pytest.mark.parametrize(
    ("memory", "limit", "wanted"),
    [
        (1000, 1000, 1000), (1000, 100, 96), (1000, 8, 8), (1000, 7, 4), (1000, 3, 2), (1000, 1, 1), (100, 1000, 96),
        (16, 1000, 16), (15, 1000, 8), (7, 1000, 4), (3, 1000, 2), (1, 1000, 1), (0, 1000, None), (65, 64, 64),
        (1, 3, 1), (0, 1, None), (700, 1024, 696),
    ],
)  # fmt: skip
def test_the_search_finds_the_largest_that_fits(memory, limit, wanted):
    asked = []

    def fits(size):
        asked.append(size)
        return size <= memory

    assert largest_fitting(fits, limit=limit) == wanted
    assert len(asked) == len(set(asked)) <= 14
    assert max(asked) <= limit


def test_the_worst_batch_has_the_most_captions_and_the_longest(tiny_model, pictures):
    dataset = dataset_of(pictures, caption_choice="all")
    model = tiny_model()
    model.fit_tokenizer(dataset.captions)
    batch = WorstBatch(model, dataset).of_size(70)
    counts = torch.bincount(batch.image_index)
    assert counts.tolist() == [3] * 60 + [1] * 10
    longest = max(model.tokenizer.count_tokens(dataset.captions)) + 1
    assert tuple(batch.tokens.input_ids.shape) == (190, longest)
    worst_tokens = sorted(sum(model.tokenizer.count_tokens(s.captions)) + len(s.captions) for s in dataset.samples)
    assert batch.num_tokens == sum(worst_tokens[-70:])
    assert int((batch.tokens.targets != IGNORE_INDEX).sum()) == batch.num_tokens
    weighted = WorstBatch(model, dataset, weights=[1.5] * 600)
    assert torch.bincount(weighted.of_size(130).image_index).tolist() == [3] * 120 + [1] * 10
    one_each = WorstBatch(model, dataset_of(pictures, caption_choice="first")).of_size(5)
    assert one_each.image_index is None
    assert tuple(one_each.tokens.input_ids.shape) == (5, longest)


def test_it_leaves_no_trace(tiny_model, pictures, caplog):
    dataset, model = dataset_of(pictures), tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    definition, state, learned = model.tokenizer.definition, torch.get_rng_state(), model.training
    with caplog.at_level(logging.INFO):
        found = find_batch_size(model, dataset, device="cpu", ema_decay=0.9, freeze="encoder", precision="fp32")
    assert found == 16, "600 pictures in 32 steps"
    assert "batch_size auto: 16, so that 600 pictures make enough steps an epoch" in caplog.text
    assert "The learning rate stays 0.0003." in caplog.text
    assert model.tokenizer.definition == definition
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training == learned
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


def test_on_a_processor_the_free_memory_bounds_it(tiny_model, pictures):
    model = tiny_model()
    steps = TrialSteps(
        model, dataset_of(pictures), device=torch.device("cpu"), weights=None,
        options=TrainingOptions(precision="fp32", gradient_accumulation_steps=2),
    )  # fmt: skip
    assert expected_to_fit(steps, free_bytes=lambda: 10**15)(64)
    if free_memory.peak_bytes_of(lambda: None) is None:
        pytest.skip("this system does not tell the peak of a process's memory")
    assert not expected_to_fit(steps, free_bytes=lambda: steps.gradient_bytes)(1)
    assert expected_to_fit(steps, free_bytes=lambda: None)(64), "where nothing is known, the cap alone counts"


class LimitedMemory(TrialSteps):
    """A GPU's memory ran out above so many pictures."""

    LIMIT = 21

    def take(self, size):
        if size > self.LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        super().take(size)


def test_where_memory_runs_out_a_smaller_size_is_found_and_the_steps_go_on(tiny_model, pictures):
    steps = LimitedMemory(
        tiny_model(), dataset_of(pictures), device=torch.device("cpu"), weights=None,
        options=TrainingOptions(precision="fp32"),
    )  # fmt: skip
    assert largest_fitting(steps.is_possible, limit=64) == 16


def test_not_even_one_picture_is_an_error_with_advice(tiny_model, pictures, monkeypatch):
    monkeypatch.setattr(trial_steps, "SHARE", 0.0)  # of the free memory
    if free_memory.peak_bytes_of(lambda: None) is None:
        pytest.skip("this system does not tell the peak of a process's memory")
    with pytest.raises(ConfigError, match=r"not even a single picture fits into memory\. Choose a smaller image_size"):
        find_batch_size(tiny_model(), dataset_of(pictures), device="cpu", precision="fp32")


@pytest.mark.gpu
def test_on_a_gpu_the_found_size_trains_and_leaves_no_trace(tiny_model, pictures):
    model = tiny_model()
    state, fraction = torch.cuda.get_rng_state(), torch.cuda.get_per_process_memory_fraction()
    steps = TrialSteps(
        model, dataset_of(pictures), device=torch.device("cuda"), weights=None, options=TrainingOptions()
    )
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * MIB) / total)
    try:
        assert steps.is_possible(1)
        assert 1 <= largest_fitting(steps.is_possible, limit=600) < 600
    finally:
        torch.cuda.set_per_process_memory_fraction(fraction)
    assert find_batch_size(model, dataset_of(pictures), device="cuda") == 16
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.cuda.get_per_process_memory_fraction() == fraction
    assert model.device.type == "cpu"


# --- what is free -----------------------------------------------------------------------------------------------------


def a_system(root, *, available=8000, cgroup="", **files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 9000 kB\nMemAvailable: {available} kB\n", encoding="utf-8")
    (root / "proc/self/cgroup").write_text(cgroup, encoding="utf-8")
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def test_free_memory_is_what_the_tightest_of_machine_and_groups_leaves(tmp_path):
    kib = 2**10
    assert free_memory.free_memory_bytes(a_system(tmp_path / "machine")) == 8000 * kib
    group = {"memory.max": "5000000", "memory.current": "3000000", "memory.stat": "anon 1\ninactive_file 1000000\n"}
    second = a_system(tmp_path / "v2", cgroup="0::/a/b\n", **{f"a/{name}": text for name, text in group.items()})
    assert free_memory.free_memory_bytes(second) == 3_000_000, "of the group around"
    unlimited = a_system(
        tmp_path / "max", cgroup="0::/a\n", **{f"a/{n}": t for n, t in (group | {"memory.max": "max\n"}).items()}
    )
    assert free_memory.free_memory_bytes(unlimited) == 8000 * kib
    first = a_system(
        tmp_path / "v1", cgroup="3:cpu,cpuacct:/\n4:memory:/elsewhere\n0::/\n",
        **{
            "memory/memory.limit_in_bytes": "4000000", "memory/memory.usage_in_bytes": "2500000",
            "memory/memory.stat": "total_inactive_file 500000\n",
        },
    )  # fmt: skip
    assert free_memory.free_memory_bytes(first) == 2_000_000, "a container does not see its own folder"
    assert free_memory.free_memory_bytes(tmp_path / "no system") is None


def test_the_peak_of_work_is_measured_above_what_was_there_before():
    peak = free_memory.peak_bytes_of(lambda: torch.ones(50 * MIB // 4).sum())
    if peak is None:
        pytest.skip("this system does not tell the peak of a process's memory")
    assert 49 * MIB <= peak < 60 * MIB
    small = free_memory.peak_bytes_of(lambda: SimpleNamespace())
    assert small is not None
    assert small < 5 * MIB
