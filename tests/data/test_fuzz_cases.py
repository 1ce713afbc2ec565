"""The long fuzz in small: a few cases of each target pass, cases are repeatable, and the watch sees what it is for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.broken_targets import broken_targets
from tests.fuzz.manifest_cases import MANIFEST_MAKERS
from tests.fuzz.targets import all_targets, data_folder
from tests.fuzz.worker import make_case, run_case

TARGETS = all_targets()


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


@pytest.mark.parametrize("name", TARGETS)
def test_the_first_cases_of_each_target_pass_and_some_are_read(data: Path, name: str) -> None:
    read = [run_case(TARGETS[name], data, make_case(TARGETS[name], 1, number)) for number in range(60)]
    assert 0 < sum(read) < len(read)


@pytest.mark.parametrize("name", MANIFEST_MAKERS)
def test_a_case_is_made_again_from_its_number(name: str) -> None:
    target = TARGETS.get(name, TARGETS["images"])
    assert make_case(target, 7, 3) == make_case(target, 7, 3)


@pytest.mark.slow  # a case that hangs, a case that takes 700 MiB
@pytest.mark.skipif(sys.platform != "linux", reason="the watch reads /proc")
def test_the_watch_sees_and_keeps_each_kind_of_failure(tmp_path: Path, repository_root: Path) -> None:
    names = sorted(broken_targets())
    command = [sys.executable, "-m", "tests.fuzz", "--minutes", "5", "--cases", "6", "--seconds", "1", "--seed", "2"]
    command += ["--only", ",".join(names), "--keep", str(tmp_path)]
    ended = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, timeout=200)
    kept = {path.parent.name.rsplit("-", 3)[0] for path in tmp_path.glob("*/failure.txt")}
    assert (ended.returncode, kept) == (1, set(names)), ended.stdout + ended.stderr


@pytest.mark.slow  # starts a process with workers
@pytest.mark.skipif(sys.platform != "linux", reason="the watch reads /proc")
def test_a_run_without_failures_ends_well_and_the_next_goes_on_behind_it(tmp_path: Path, repository_root: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--cases",
        "5",
        "--jobs",
        "2",
        "--only",
        "json,images",
        "--minutes",
        "5",
    ]
    for _ in range(2):
        ended = subprocess.run([*command, "--keep", str(tmp_path)], cwd=repository_root, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "where the last run ended" in ended.stdout
    assert '"images": 2' in (tmp_path / "next-0.json").read_text()
