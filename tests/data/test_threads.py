import os

import pytest

from systems.pixel_llm.data.threads import default_threads, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (64, 16)])
def test_threads_are_as_many_as_the_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert (usable_cores(), default_threads()) == (cores, threads)
