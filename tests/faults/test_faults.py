"""A fault at every system call of a save and of what is removed after it, and power cuts: no checkpoint is lost.

Each walk runs as a program of its own, which forks; pytest has threads.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NOTHING_DONE = 2


def run(code: str, folder: Path, root: Path) -> str:
    """What the program prints; skips where it says that nothing can be done here."""
    start = "import logging, sys, torch; logging.disable(50); torch.set_num_threads(1); from pathlib import Path; "
    imports = "from tests.faults import power_cut, scenarios, strace, walk; from tests.faults.__main__ import main\n"
    done = subprocess.run(
        [sys.executable, "-c", start + imports + code, str(folder)], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    if done.returncode == NOTHING_DONE:
        pytest.skip(done.stderr.strip())
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def quick_folder(tmp_path: Path) -> Any:
    """In memory, where a machine has such a place; what is synced there costs nothing."""
    memory = Path("/dev/shm") / f"pixel-llm-faults-{os.getpid()}"
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    memory.mkdir()
    yield memory
    shutil.rmtree(memory)


@pytest.mark.parametrize("effect", ["KILL", "ENOSPC", "EIO"])
def test_a_fault_at_every_system_call_loses_nothing(effect: str, quick_folder: Path, repository_root: Path) -> None:
    told = run(f"sys.exit(main(['--folder', sys.argv[1], '--effects', {effect!r}]))", quick_folder, repository_root)
    assert "good (100.0 %); 0 calls were not met again" in told
    assert int(told.rpartition(" faults, ")[0].split()[-1]) > 900


def test_with_threads_that_write_blocks_and_errors_that_stay_nothing_is_lost_either(
    quick_folder: Path, repository_root: Path
) -> None:
    told = run(
        "sys.exit(main(['--folder', sys.argv[1], '--threads', '--every', '5', '--effects', 'KILL,EIO'])"
        " or main(['--folder', sys.argv[1], '--lasting', '--every', '5', '--effects', 'ENOSPC']))",
        quick_folder, repository_root,
    )  # fmt: skip
    assert told.count("good (100.0 %)") == 2


def test_a_walk_finds_a_save_that_removes_before_it_writes(quick_folder: Path, repository_root: Path) -> None:
    told = run(
        "reason = strace.why_not_traceable(Path(sys.argv[1]) / 'log')\n"
        "if reason: print(reason, file=sys.stderr); sys.exit(2)\n"
        "with walk.in_one_thread():\n"
        "    careless = (scenarios.careless_scenario(),)\n"
        "    report = walk.walk(Path(sys.argv[1]), scenarios=careless, effects=('KILL',), every=9)\n"
        "print(len(report.failures), report.num_points)",
        quick_folder, repository_root,
    )  # fmt: skip
    num_found, num_points = map(int, told.split())
    assert num_points > 10
    assert num_found > num_points / 2


def test_a_power_cut_at_any_moment_leaves_the_last_acknowledged_one(quick_folder: Path, repository_root: Path) -> None:
    told = run("sys.exit(main(['--folder', sys.argv[1], '--cuts', '50']))", quick_folder, repository_root)
    assert "50 power cuts in " in told
    assert "\n50 good" in told


def test_power_cuts_find_a_save_that_syncs_nothing(quick_folder: Path, repository_root: Path) -> None:
    told = run(
        "import os\n"
        "reason = power_cut.why_not_mountable(Path(sys.argv[1]))\n"
        "if reason: print(reason, file=sys.stderr); sys.exit(2)\n"
        "def save(*args, **settings):\n"
        "    os.fsync = lambda descriptor: None\n"  # in the writer's process alone
        "    scenarios.save_numbers(*args, **settings)\n"
        "print(len(power_cut.cut_power(Path(sys.argv[1]), cuts=5, save=save).failures))",
        quick_folder, repository_root,
    )  # fmt: skip
    assert int(told) > 0
