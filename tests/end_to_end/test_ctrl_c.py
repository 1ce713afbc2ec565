"""A real `pixel-llm train` that is stopped from outside: what it leaves can be resumed, and captions pictures.

The signals are sent when the process says on stderr that it has come so far, so no test waits by the clock.
"""

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from random import Random

import pytest
from PIL import Image

from systems.pixel_llm.training.metrics_log import read_metrics
from tests.kills.outcome import differences, read_outcome

LONG = [
    "--image-size", "32", "--vision-embed-dim", "32", "--vision-num-layers", "1", "--text-num-layers", "1",
    "--batch-size", "4", "--precision", "fp32", "--num-workers", "0", "--log-interval", "1", "--device", "cpu",
]  # fmt: skip
ENDLESS = ["--max-steps", "1000000"]


@pytest.fixture
def pictures(in_tmp_path):
    folder = in_tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        colour = ("red", "green", "blue")[index % 3]
        Image.new("RGB", (40, 32), colour).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.txt").write_text(f"A {colour} picture\n", encoding="utf-8")
    return folder


@pytest.fixture
def environment(repository_root):
    return os.environ | {"PYTHONPATH": str(repository_root), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def started(pictures, environment):
    """Call it with words of the command line: a training under way, at its second step at least, and its stderr."""

    @contextmanager
    def start(*words, stderr=subprocess.PIPE):
        process = subprocess.Popen(
            [sys.executable, "-m", "systems.pixel_llm", "train", "pictures", *LONG, "--out", "run", *words],
            stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


def wait_for(process, wanted):
    for line in process.stderr:
        if re.search(wanted, line):
            return
    pytest.fail(f"the training ended before it said {wanted!r}")


def pixel_llm(environment, *words):
    return subprocess.run(
        [sys.executable, "-m", "systems.pixel_llm", *words],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on_and_captions(started, environment):
    with started(*ENDLESS) as process:
        wait_for(process, r"step 2/.* loss")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "stopping after this step and saving" in err
    assert "Traceback" not in err
    assert "To go on: pixel-llm train pictures --out run --resume" in err
    assert "contact sheet: run/samples.png" in out
    stopped_at = int(re.findall(r"step (\d+)/\d+ \| end of training \(interrupted\)", err)[0])

    captioned = pixel_llm(environment, "caption", "run", "pictures/00.png")
    assert captioned.returncode == 0
    assert captioned.stdout.startswith("pictures/00.png\t")

    resumed = pixel_llm(
        environment, "train", "pictures", "--out", "run", "--resume", "--max-steps", str(stopped_at + 2)
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"step {stopped_at}." in resumed.stderr
    assert f"step {stopped_at + 2}/{stopped_at + 2} | end of training (max_steps)" in resumed.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["SIGTERM", "SIGHUP"])
def test_a_job_that_is_ended_saves_first(started, number, status):
    with started(*ENDLESS) as process:
        wait_for(process, r"step 2/.* loss")
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    assert re.search(r"^checkpoint run/checkpoints/", err, re.MULTILINE)


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(started):
    with started(*ENDLESS) as process:
        wait_for(process, r"step 2/.* loss")
        process.send_signal(signal.SIGINT)
        wait_for(process, "Ctrl-C again stops at once")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    # At once, wherever it was by then: saving, drawing the contact sheet, or done with both.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_ends_as_an_unbroken_one(started, environment, in_tmp_path):
    words = (
        "--epochs", "5", "--validation-fraction", "0.1", "--caption-choice", "sample", "--dropout", "0.2",
        "--augment", "crop,color,flip",
        "--captions-per-file", "lines", "--gradient-accumulation-steps", "2", "--ema-decay", "0.9",
        "--save-every-steps", "3", "--checkpoint-interval", "2", "--early-stopping-patience", "4",
    )  # fmt: skip
    for path in in_tmp_path.glob("pictures/*.png"):  # of pictures that look alike, all would go to one side
        Image.frombytes("RGB", (40, 32), Random(path.stem).randbytes(40 * 32 * 3)).save(path)
        path.with_suffix(".txt").write_text(f"Dots, number {path.stem}\nNothing but noise\n", encoding="utf-8")
    unbroken = pixel_llm(environment, "train", "pictures", *LONG, "--out", "unbroken", *words)
    assert unbroken.returncode == 0, unbroken.stderr
    for seen, more in (("step 2/.* loss", ()), ("step 5/.* loss", ("--resume",)), ("validation loss", ("--resume",))):
        with started(*words, *more) as process:
            wait_for(process, seen)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    resumed = pixel_llm(environment, "train", "pictures", *LONG, "--out", "run", *words, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming run at checkpoint" in resumed.stderr
    assert differences(read_outcome(in_tmp_path / "run"), read_outcome(in_tmp_path / "unbroken")) == []
    panels, expected = (
        [
            (record["step"], record["captions"])
            for record in read_metrics(in_tmp_path / name / "panel.jsonl")
            if record["kind"] == "panel"
        ]
        for name in ("run", "unbroken")
    )
    assert panels == expected, "and shows the same captions"
    assert [step for step, _ in panels] == [2, 4, 6, 8, 10]


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_the_run_with_a_checkpoint(pictures, environment):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "systems.pixel_llm", "train", "pictures", *LONG, "--out", "run", *ENDLESS],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=become_session_leader,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while not re.search(rb"step [1-9]\d*/", shown):  # the bar shows some of the steps only
            shown += os.read(ours, 4096)
        os.close(ours)  # the kernel hangs the process up, and its output goes nowhere from here
        assert process.wait() == 129
    finally:
        process.kill()
        process.wait()
    captioned = pixel_llm(environment, "caption", "run", "pictures/00.png")
    assert captioned.returncode == 0, captioned.stderr


def become_session_leader():
    """In the child: the pty becomes its controlling terminal, as a shell's is."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
