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
from pathlib import Path
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
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
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
    assert process.returncode == 130
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


# --- wherever it is ---------------------------------------------------------------------------------------------------

EPOCHS = ["--epochs", "1000000", "--metric", "cider_d"]  # an epoch is three steps, and then it validates

ROOM = """
import importlib, sys
from systems.pixel_llm.cli.main import entry_point

owner = importlib.import_module("systems.pixel_llm." + sys.argv.pop(1))
*owners, name = sys.argv.pop(1).split(".")
for each in owners:
    owner = getattr(owner, each)
called = getattr(owner, name)

def told(*arguments, **named):
    print("READY", file=sys.stderr, flush=True)
    return called(*arguments, **named)

setattr(owner, name, told)
entry_point()
"""


@pytest.fixture
def started_at(pictures, environment):
    """Call it with a module, a name in it and words: a `train` that has just come to where that is called."""

    @contextmanager
    def start(module, name, *words):
        process = subprocess.Popen(
            [sys.executable, "-c", ROOM, module, name, "train", "pictures", *LONG, "--out", "run", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            wait_for(process, "READY")
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        ("cli.options", "parse_train", signal.SIGTERM),  # torch is imported next
        ("cli.options", "parse_train", signal.SIGINT),
        ("cli.train", "read_data", signal.SIGUSR1),
        ("cli.train", "first_look", signal.SIGINT),
        ("cli.train", "make_trainer", signal.SIGHUP),
        ("cli.train", "write_options", signal.SIGINT),
        ("cli.train", "write_environment", signal.SIGTERM),
        ("training.trainer", "prepare_vocabulary", signal.SIGTERM),
    ],
)
def test_a_signal_while_it_starts_ends_it_and_is_not_in_the_way_of_the_next_start(
    started_at, environment, module, name, number
):
    with started_at(module, name, *ENDLESS, "--cache") as process:
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    told = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert re.search(rf"pixel-llm: stopped by {told}\.|Stopped before the first step", err), err
    how = "--resume" if Path("run").exists() else "--cache"
    again = pixel_llm(environment, "train", "pictures", *LONG, "--out", "run", how, "--max-steps", "2")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        ("training.stepping", "Stepping.mean_loss", signal.SIGINT),
        ("training.stepping", "Stepping.mean_loss", signal.SIGUSR1),
        ("evaluation.validation_scorer", "ValidationScorer.__call__", signal.SIGTERM),
        ("cli.samples", "SamplePanel.__call__", signal.SIGINT),
        ("training.checkpoint", "CheckpointManager.save", signal.SIGHUP),
    ],
)
def test_from_validation_and_what_goes_with_it(started_at, environment, module, name, number):
    with started_at(module, name, *EPOCHS) as process:
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    if "Stopped before the first step" in err:  # the panel is asked at the run's beginning too
        return
    assert pixel_llm(environment, "caption", "run", "pictures/00.png").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("score_validation", signal.SIGINT),
        ("score_validation", signal.SIGTERM),
        ("write_pictures", signal.SIGINT),
        ("report_run", signal.SIGUSR1),
    ],
)
def test_from_what_comes_after_training(started_at, environment, name, number):
    with started_at("cli.train", name, "--max-steps", "2") as process:
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert "the run is whole" in err
    assert pixel_llm(environment, "caption", "run", "pictures/00.png").returncode == 0
    again = pixel_llm(environment, "train", "pictures", "--out", "run", "--resume")
    assert again.returncode == 0, again.stderr
    assert Path("run/report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once_and_the_checkpoints_are_whole(started, environment, second):
    first = signal.SIGTERM if second == signal.SIGINT else signal.SIGINT
    with started(*ENDLESS, "--save-every-steps", "2") as process:
        wait_for(process, r"step 5/.* loss")
        process.send_signal(first)
        wait_for(process, "stops at once")
        process.send_signal(second)
        _, err = process.communicate()
    # It may have come to its end by then.
    assert process.returncode in (128 + first, 128 + second)
    assert "Traceback" not in err
    captioned = pixel_llm(environment, "caption", "run", "pictures/00.png")
    assert captioned.returncode == 0, captioned.stderr


SCRIPT = """
import os, sys
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training import ImageCaptionDataset, Trainer
from torch.utils.data import DataLoader

dataset = ImageCaptionDataset("pictures", image_size=(32, 32), on_bad_sample="raise")
loader = DataLoader(
    dataset, batch_size=4, shuffle=True, num_workers=2, collate_fn=dataset.get_collate_fn(), persistent_workers=True
)
model = create_pixel_llm(
    image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, vocab_size=300
)

def tell(event):
    print(event.step, flush=True)

try:
    Trainer(model, loader, device="cpu", progress="off", checkpoint_dir="run", callbacks=[tell]).train(1_000_000)
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_whole_group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_script_of_one_s_own_is_ended_by_a_cluster(pictures, environment, number, is_whole_group):
    """A cluster signals the process, or it and its workers alike."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        for line in process.stdout:
            if line.strip() == "7":
                break
        (os.killpg if is_whole_group else os.kill)(process.pid, number)
        out, err = process.communicate()  # to the end: workers hold these pipes too
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "cleaned up"
    assert any(path.name.startswith(("step_", "epoch_")) for path in Path("run").iterdir())
