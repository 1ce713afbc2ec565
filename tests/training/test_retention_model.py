"""Whatever is done to a directory of checkpoints, in whatever order: nothing to be kept is lost, nothing else stays.

Random sequences of saves, resumes, restarts, deletions, copies and damage run against a real directory and a model of
it (`retention_model.py`), compared after each step.
"""

import os
import tempfile
import time
from collections import Counter
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systems.pixel_llm import checkpoint_folder, folder_writer
from tests.training.retention_model import Twins

IN_MEMORY = Path("/dev/shm")
INDEX = st.integers(0, 9)
METRIC = st.one_of(
    st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), st.none(), st.sampled_from([float("nan"), -float("inf")])
)
SAVE = st.tuples(st.just("save"), METRIC, st.sampled_from([False, False, False, True]))
OPERATION = st.one_of(
    *5 * [SAVE],
    st.tuples(st.just("save over"), METRIC, INDEX),
    st.tuples(st.just("resume"), INDEX),
    st.tuples(st.just("load"), st.sampled_from(["best", "latest"])),
    st.tuples(st.just("new manager")),
    *2 * [st.tuples(st.just("restart"))],
    st.tuples(st.just("delete"), INDEX),
    st.tuples(st.just("copy"), INDEX),
    st.tuples(st.just("damage"), INDEX, st.sampled_from(["content", "size", "manifest"])),
    st.tuples(st.just("another run"), st.sampled_from([0.05, 0.6, None])),
)
SEQUENCES = st.tuples(
    st.integers(1, 3), st.lists(SAVE, min_size=2, max_size=4), st.lists(OPERATION, min_size=6, max_size=16)
)


class AtOnce(Executor):
    """An executor that does what it is given before it goes on."""

    def submit(self, function, /, *arguments, **settings):
        future = Future()
        try:
            future.set_result(function(*arguments, **settings))
        except OSError as error:
            future.set_exception(error)
        return future


@contextmanager
def no_threads():
    yield AtOnce()


def run_sequence(max_checkpoints, first_saves, operations, counted):
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        twins = Twins(Path(folder), max_checkpoints=max_checkpoints)
        for kind, *details in [*first_saves, *operations]:
            match kind, details:
                case "save", [metric, keep]:
                    twins.save(metric, keep=keep)
                case "save over", [metric, index]:
                    twins.save(metric, over=index)
                case "resume", [index]:
                    twins.resume(index)
                case "load", [which]:
                    twins.load(which)
                case "new manager", []:
                    twins.new_manager()
                case "restart", []:
                    twins.restart()
                case "delete", [index]:
                    twins.delete(index)
                case "copy", [index]:
                    twins.copy(index)
                case "damage", [index, how]:
                    twins.damage(index, how)
                case "another run", [metric]:
                    twins.bring_another_run(metric)
            twins.check()
            counted[kind] += 1
        counted["pruned"] += twins.num_pruned


def run_sequences(number):
    """The same ones each time. Nothing is synced, and no thread started: power cuts and speed are for other tests."""
    counted = Counter()

    @settings(max_examples=number, derandomize=True, database=None, deadline=None)
    @given(SEQUENCES)
    def check(sequence):
        counted["sequences"] += 1
        run_sequence(*sequence, counted)

    with (
        patch.object(os, "fsync", lambda descriptor: None),
        patch.object(folder_writer, "block_threads", no_threads),
        patch.object(checkpoint_folder, "block_threads", no_threads),
    ):
        check()
    return counted


def test_a_hundred_sequences():
    counted = run_sequences(100)
    assert counted["sequences"] >= 100
    assert min(counted.values()) > 30, counted


@pytest.mark.slow
def test_ten_thousand_sequences():
    started = time.monotonic()
    counted = run_sequences(10_000)
    print(f"\n{dict(counted)} in {time.monotonic() - started:.0f} s")
    assert counted["sequences"] >= 10_000
