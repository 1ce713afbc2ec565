"""METEOR and SPICE around their programs: what they are given, and what happens where they fail.

A script named `java` takes the place of Java here, since the programs themselves are large and slow; the tests of
published scores run the true one.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.java_scores import meteor_statistics, spice

COUNTS = "4 3 2 1 1 1 1 1 0 0 0 0 0 0 0 0 0 1 1 0 1 3 3"
MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, to see what is left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that looks like an installed pycocoevalcap, without models."""
    folder = tmp_path / "packages" / "pycocoevalcap"
    for name in ("meteor/meteor-1.5.jar", "spice/spice-1.0.jar", "spice/lib/ejml-0.23.jar"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr("sys.path", [str(folder.parent)])
    return folder


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Call it with the lines of a shell script: that is `java` from then on."""

    def put(*lines):
        path = tmp_path / "bin" / "java"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")

    return put


def test_meteor_gets_one_line_a_caption(tmp_path, temporary, programs, java):
    java(f'echo "$@" > {tmp_path}/arguments', f"tee {tmp_path}/input | sed 's/.*/{COUNTS}/'")
    captions = ["A dog ||| runs,\nfast\r\nat\u2028last.", "", "half of a pair: \ud83d"]
    found = meteor_statistics(captions, [["The dog."], ["...", "SCORE ||| it"], ["a café"]])
    assert (tmp_path / "input").read_text(encoding="utf-8").split("\n") == [
        "SCORE ||| the dog ||| a dog | | | runs fast at last",
        "SCORE |||  ||| score | | | it ||| ",
        "SCORE ||| a café ||| half of a pair ?",
        "",
    ]
    assert found.tolist() == [[float(each) for each in COUNTS.split()]] * 3
    arguments = (tmp_path / "arguments").read_text(encoding="utf-8").split()
    assert arguments[0] == "-Xmx2G"
    assert arguments[-8:] == ["-jar", str(programs / "meteor/meteor-1.5.jar"), "-", "-", "-stdio", "-l", "en", "-norm"]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("score", [meteor_statistics, spice])
def test_the_reason_without_java(score, programs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotComputedError, match=r"there is no `java` on the PATH\. Install a Java runtime"):
        score(["a"], [["a"]])


@pytest.mark.parametrize("score", [meteor_statistics, spice])
def test_the_reason_without_pycocoevalcap(score, java, monkeypatch):
    java("exit 1")
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(NotComputedError, match=r"Run: pip install 'pixel-llm\[meteor\]'"):
        score(["a"], [["a"]])


def test_the_reason_where_the_program_is_missing(programs, java):
    java("exit 1")
    (programs / "meteor/meteor-1.5.jar").unlink()
    with pytest.raises(NotComputedError, match=r"needs meteor/meteor-1.5.jar of pycocoevalcap 1\.2"):
        meteor_statistics(["a"], [["a"]])


def test_the_reason_where_it_fails(temporary, programs, java):
    java("cat > /dev/null", "echo no room for objects >&2", "touch hs_err_pid1.log", "exit 3")
    with pytest.raises(NotComputedError, match="java ended with status 3 and said 'no room for objects'"):
        meteor_statistics(["a"], [["a"]])
    assert list(temporary.iterdir()) == []


def test_the_reason_where_it_does_not_even_read(programs, java):
    java("exit 1")
    with pytest.raises(NotComputedError, match="java ended with status 1"):
        meteor_statistics(["a dog on the grass"] * 20_000, [["a dog"]] * 20_000)


def test_the_reason_where_java_cannot_be_started(tmp_path, programs, java):
    java()
    (tmp_path / "bin" / "java").write_text("#!/nowhere/at/all\n", encoding="utf-8")
    with pytest.raises(NotComputedError, match=r"METEOR failed: .*bin/java cannot be run"):
        meteor_statistics(["a"], [["a"]])


@pytest.mark.parametrize("answer", ["", "Error: specify SCORE", COUNTS, f"{COUNTS}\n1 2"])
def test_the_reason_where_the_answer_is_another(programs, java, answer):
    java("cat > /dev/null", *(f"echo '{line}'" for line in answer.splitlines()))
    with pytest.raises(NotComputedError, match="otherwise than with 23 counts for each of 2 captions"):
        meteor_statistics(["a", "b"], [["a"], ["b"]])


def test_it_is_stopped_with_all_that_it_started(tmp_path, temporary, programs, java):
    os.mkfifo(tmp_path / "alive")
    alive = os.fdopen(os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK), "rb")
    java(f"exec 3> {tmp_path}/alive", "printf started >&3", "sleep 100 & sleep 100")
    with pytest.raises(NotComputedError, match="METEOR did not end in 2 seconds and was stopped"):
        meteor_statistics(["a"], [["a"]], timeout_seconds=2)
    os.set_blocking(alive.fileno(), True)
    with alive:
        assert alive.read() == b"started"  # which ends when nobody is left who could write
    assert list(temporary.iterdir()) == []


def test_the_reasons_why_there_is_no_spice(programs, java):
    java("""echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    with pytest.raises(NotComputedError) as told:
        spice(["a"], [["a"]])
    assert str(told.value) == (
        "SPICE 1.0 runs with Java 8 to 14; found Java 17. Put an older Java first on the PATH. "
        f"SPICE needs {MODELS[0]} and {MODELS[1]} in {programs / 'spice/lib'}, which pycocoevalcap does not bring "
        "along. To download them from Stanford, some hundred MB, run: "
        "python -m pycocoevalcap.spice.get_stanford_models"
    )


def answer_of_spice(*scores):
    return json.dumps([{"image_id": index, "scores": {"All": {"f": value}}} for index, value in scores])


def put_spice(programs, java, tmp_path, answer):
    for name in MODELS:
        (programs / "spice/lib" / name).touch()
    (tmp_path / "answer").write_text(answer, encoding="utf-8")
    java(
        f'echo "$@" >> {tmp_path}/arguments',
        """for each in "$@"; do [ "$each" = -version ] && echo 'java version "1.8.0_292"' >&2 && exit; done""",
        'while [ "$1" != -jar ]; do shift; done',
        f'cp "$3" {tmp_path}/asked',
        f'cp {tmp_path}/answer "$5"',
    )


def test_spice_of_each_caption(tmp_path, temporary, programs, java):
    put_spice(programs, java, tmp_path, answer_of_spice((3, 0.25), (0, 0.5)))
    captions = ["A dog.", "...", "a cat", "Ein Käfer ||| im\nGras"]
    references = [["The dog!", "..."], ["a dog"], ["!"], ["der Käfer"]]
    assert spice(captions, references).tolist() == [0.5, 0, 0, 0.25]
    assert json.loads((tmp_path / "asked").read_text(encoding="ascii")) == [
        {"image_id": 0, "test": "a dog", "refs": ["the dog"]},
        {"image_id": 3, "test": "ein käfer | | | im gras", "refs": ["der käfer"]},
    ]
    assert (tmp_path / "arguments").read_text(encoding="utf-8").splitlines()[1].startswith("-Xmx8G ")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "left no scores that can be read"),
        ("[{}]", "left no scores that can be read"),
        (answer_of_spice((0, None), (1, 0.5)), "left no scores that can be read"),
        (answer_of_spice((0, 1.5), (1, 0.5)), "expected 0..1, found 0.5 to 1.5"),
        (answer_of_spice((0, 0.5)), "scored 1 captions of 2"),
    ],
)
def test_the_reason_where_spice_leaves_no_scores(tmp_path, programs, java, answer, reason):
    put_spice(programs, java, tmp_path, answer)
    with pytest.raises(NotComputedError, match=reason):
        spice(["a", "b"], [["a"], ["b"]])


def test_captions_without_words_need_no_spice(tmp_path, programs, java):
    put_spice(programs, java, tmp_path, "")
    assert spice(["", "?"], [["a"], ["b"]]).tolist() == [0, 0]


@pytest.mark.parametrize("score", [meteor_statistics, spice])
def test_as_many_captions_as_lists(score):
    with pytest.raises(ValueError, match="found 2 captions, 1 lists"):
        score(["a", "b"], [["a"]])


def test_nothing_is_written_beside_the_programs(tmp_path, programs, java):
    before = sorted(Path(programs).rglob("*"))
    java(f"sed 's/.*/{COUNTS}/'")
    assert np.isfinite(meteor_statistics(["a"], [["b"]])).all()
    assert sorted(Path(programs).rglob("*")) == before
