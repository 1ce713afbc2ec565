"""500 pictures, 10 of them bad, captioned by a real process that a real Ctrl-C or a kill ends: each good one once.

The signal is sent when the output has grown, so no test waits by the clock.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from systems.pixel_llm.data.samples import read_samples
from systems.pixel_llm.models import create_pixel_llm

NUM_PICTURES, NUM_BAD = 500, 10
DEADLINE_SECONDS = 300
OUTPUT = {
    "lines": ["--output", "out.txt"],
    "jsonl": ["--output", "out.jsonl"],
    "csv": ["--output", "out.csv"],
    "manifest": ["--output", "album/manifest.json"],
    "txt": [],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`album`, in folders of a hundred, and a small untrained `model`."""
    place = tmp_path_factory.mktemp("place")
    for index in range(NUM_PICTURES):
        path = place / f"album/{index // 100}/{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 32), (index % 256, index // 2, 90)).save(path)
        if index % 50 == 7:
            path.write_bytes((b"", path.read_bytes()[:200], b"no picture")[index % 3])
    create_pixel_llm(
        image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, max_seq_len=16
    ).save_pretrained(place / "model")
    return place


@pytest.fixture
def environment(repository_root):
    return os.environ | {"PYTHONPATH": str(repository_root)}


def names_in(form, place):
    """The pictures that are captioned at this moment, as often as they are."""
    if form == "txt":
        return [path.with_suffix(".jpg").name for path in place.glob("album/*/*.txt") if path.stat().st_size]
    if form == "manifest":
        partial, whole = place / "album/manifest.json.partial", place / "album/manifest.json"
        lines = partial.read_bytes().split(b"\n")[:-1] if partial.exists() else []
        names = {json.loads(line)["image"] for line in lines}
        names |= json.loads(whole.read_bytes()).keys() if whole.exists() else set()
        return [Path(name).name for name in names]
    file = place / OUTPUT[form][1]
    rows = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    if form == "jsonl":
        return [Path(json.loads(row)["image"]).name for row in rows]
    return [Path(os.fsdecode(row.split(b"\t" if form == "lines" else b",")[0])).name for row in rows[form == "csv" :]]


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
@pytest.mark.parametrize("form", OUTPUT)
def test_interrupted_and_continued_each_good_picture_is_captioned_once(place, environment, form, ended_by):
    for path in [*place.glob("out.*"), *place.glob("album/manifest*"), *place.glob("album/*/*.txt")]:
        path.unlink()
    command = [
        sys.executable, "-m", "systems.pixel_llm", "caption", "model", "album", "--as", form, *OUTPUT[form],
        "--device", "cpu", "--batch-size", "4", "--num-beams", "1",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(names_in(form, place)) < 40 and process.poll() is None and time.monotonic() < deadline:
            os.sched_yield()
        process.send_signal(ended_by)
        _, err = process.communicate()
    before = names_in(form, place)
    assert 40 <= len(before) < NUM_PICTURES - NUM_BAD, err
    assert len(before) == len(set(before))
    if ended_by == signal.SIGINT:
        assert process.returncode == 130
        assert "To go on, type the same command again." in err
        assert f"{len(before)} captioned" in err
    assert "Traceback" not in err

    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    good = {f"{index}.jpg" for index in range(NUM_PICTURES) if index % 50 != 7}
    names = names_in(form, place)
    assert (len(names), set(names)) == (len(good), good)
    assert ended.returncode == 1
    assert f"{len(before)} of {NUM_PICTURES} are done already." in ended.stderr
    assert f"{len(good) - len(before)} captioned, {len(before)} done before, {NUM_BAD} bad." in ended.stderr
    assert f"pixel-llm: {NUM_BAD} pictures could not be captioned:" in ended.stderr
    if form == "manifest":
        assert len(read_samples(place / "album", "json")) == len(good)


@pytest.mark.slow
def test_watching_a_folder_captions_what_is_moved_in(place, environment, tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out.jsonl"
    inbox.mkdir()
    command = [
        sys.executable, "-m", "systems.pixel_llm", "caption", str(place / "model"), str(inbox), "--watch",
        "--watch-seconds", "0.1", "--as", "jsonl", "--output", str(out), "--device", "cpu",
    ]  # fmt: skip
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for name in ("1.jpg", "2.jpg"):
            shutil.copy(place / "album/0" / name, inbox)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not (out.exists() and name in out.read_text(encoding="utf-8")) and time.monotonic() < deadline:
                os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "2 captioned." in err
    assert len(out.read_text(encoding="utf-8").splitlines()) == 2
