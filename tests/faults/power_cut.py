"""Power cuts: a file system in a file is copied while checkpoints are saved into it, and the copy is mounted.

What a program wrote and did not sync is in the memory of the operating system alone. A copy of the file that the file
system lies in has what reached the disk, and nothing else: it is what a power cut at that moment would leave. The
writer is stopped at a random moment, and for a random time, in which the file system's journal may go on by itself; the
copy is made while nothing is written. Needs the right to mount (root).
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from systems.pixel_llm.errors import CheckpointError
from tests.faults.scenarios import contents, manager_of, save_numbers
from tests.faults.walk import in_new_process

__all__ = ["PowerReport", "cut_power", "why_not_mountable"]

_IMAGE_MIB = 32
_WIDTH = 60_000
_NAMES = 7
"""After so many saves names come again, and replace what is there."""
_LONGEST_WAIT = 1.3  # the journal has its turn each second


@dataclass
class PowerReport:
    """How the power cuts went."""

    num_cuts: int = 0
    num_saves: int = 0
    """Acknowledged by the writer in all."""
    num_in_save: int = 0
    """Cuts that left traces of a save on its way."""
    failures: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a person to read."""
        return [
            f"{self.num_cuts} power cuts in {self.num_saves} saves, {self.num_in_save} of them in a save or a removal",
            f"{self.num_cuts - len(self.failures)} good",
            *(f"FAILED: {failure}" for failure in self.failures),
        ]


def why_not_mountable(working: Path) -> str | None:
    """The reason why no file system in a file can be mounted here; None where one can."""
    for program in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    image = working / "probe.img"
    try:
        _make_image(image)
        with _mounted(image, working / "probe") as folder:
            _device_writes(folder)
    except (subprocess.CalledProcessError, OSError) as error:
        return f"a file system in a file cannot be mounted ({getattr(error, 'stderr', '') or error})".strip()
    finally:
        image.unlink(missing_ok=True)
    return None


def cut_power(
    working: Path,
    *,
    cuts: int,
    seed: int = 0,
    save: Callable[..., None] = save_numbers,
    show: Callable[[str], None] = lambda line: None,
) -> PowerReport:
    """Cut the power so many times while `save` saves one checkpoint after the other, and look at what is left."""
    report, chance = PowerReport(), random.Random(seed)
    image, copy = working / "disk.img", working / "copy.img"
    _make_image(image)
    with _mounted(image, working / "disk") as disk:
        read_end, write_end = os.pipe()
        writer = os.fork()
        if writer == 0:
            os.close(read_end)
            _save_for_ever(disk / "checkpoints", save, write_end)
        os.close(write_end)
        os.set_blocking(read_end, False)
        acknowledged = b""
        try:
            while report.num_cuts < cuts:
                time.sleep(chance.uniform(0.0, 0.4))
                os.kill(writer, signal.SIGSTOP)
                _wait_until_stopped(writer)
                time.sleep(chance.choice((0.0, chance.uniform(0.0, _LONGEST_WAIT))))
                with suppress(BlockingIOError):
                    while chunk := os.read(read_end, 1 << 16):
                        acknowledged += chunk
                _copy_at_rest(image, copy, disk)
                os.kill(writer, signal.SIGCONT)
                epochs = [int(line) for line in acknowledged.split()]
                if not epochs:  # nothing was promised yet
                    continue
                report.num_cuts += 1
                report.num_saves = epochs[-1]
                problem, in_save = _problem_of(copy, working / "after", epochs[-1])
                report.num_in_save += in_save
                if problem is not None:
                    report.failures.append(f"cut {report.num_cuts}, after save {epochs[-1]}: {problem}")
                    show(report.failures[-1])
        finally:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            os.close(read_end)
    return report


def _metric(epoch: int) -> float:
    return float(epoch * 7919 % 101)


def _save_for_ever(folder: Path, save: Callable[..., None], write_end: int) -> NoReturn:
    try:
        epoch = 0
        while True:
            epoch += 1
            save(folder, f"step_{epoch % _NAMES}", epoch, _metric(epoch), width=_WIDTH)
            os.write(write_end, b"%d\n" % epoch)
    finally:
        os._exit(1)


def _problem_of(copy: Path, mount_point: Path, last: int) -> tuple[str | None, bool]:
    """What is wrong on the copied disk where save `last` was acknowledged; and whether a save was on its way."""
    with _mounted(copy, mount_point) as disk:
        folder = disk / "checkpoints"
        in_save = folder.is_dir() and any(path.name.startswith(".") for path in folder.iterdir())
        try:
            found = contents(folder, width=_WIDTH)
            newest = max(found.values(), default=0)
            if newest not in (last, last + 1):  # the next one may be there and not yet acknowledged
                return f"the latest is of save {newest}: {found}", in_save
            latest = manager_of(folder).latest()
            if latest is None or latest.epoch != newest:
                return f"the latest is {latest}, and there is {found}", in_save
            in_new_process(lambda: save_numbers(folder, "after", last + 2, None, width=_WIDTH))
            if contents(folder, width=_WIDTH).get("after") != last + 2:
                return "what was saved after the cut is not there", in_save
        except (CheckpointError, ValueError, OSError) as error:
            return f"{error!r}", in_save
    return None, in_save


def _wait_until_stopped(process: int) -> None:
    os.waitpid(process, os.WUNTRACED)


def _copy_at_rest(image: Path, copy: Path, disk: Path) -> None:
    """Copy the image; again where the file system wrote to it meanwhile, for no disk is ever in such a state."""
    while True:
        before = _device_writes(disk)
        copy.unlink(missing_ok=True)
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        if before == _device_writes(disk):
            return


def _device_writes(disk: Path) -> tuple[str, ...]:
    """Of the device that `disk` is mounted from: writes done, sectors written, and requests on their way."""
    device = disk.stat().st_dev
    figures = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    return figures[4], figures[6], figures[8]


def _make_image(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(_IMAGE_MIB << 20)
    _run("mkfs.ext4", "-q", "-F", str(image))


@contextmanager
def _mounted(image: Path, mount_point: Path) -> Iterator[Path]:
    mount_point.mkdir(exist_ok=True)
    _run("mount", "-t", "ext4", "-o", "loop,commit=1", str(image), str(mount_point))
    try:
        yield mount_point
    finally:
        _run("umount", str(mount_point))


def _run(*command: str) -> Any:
    return subprocess.run(command, check=True, capture_output=True, text=True)
