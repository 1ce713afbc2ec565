"""METEOR and SPICE by their authors' Java programs, which the package pycocoevalcap (the extra `meteor`) brings along.

Both are given words as `evaluation.words` cuts them, joined by one space, so no caption can hold a line's end or the
programs' own separator. METEOR (M. Denkowski and A. Lavie, "Meteor Universal", WMT 2014) reads captions and references
from its input and answers with a line of counts for each caption, of which `evaluation.meteor` makes scores. SPICE
(P. Anderson et al., "SPICE: Semantic Propositional Image Caption Evaluation", ECCV 2016) compares what captions say of
objects, their properties and relations; it needs models of Stanford CoreNLP beside it, which are not fetched here, and
an old Java.

A program runs in a temporary folder that goes with it, in bounded memory, in English whatever the machine speaks, and
is ended with all that it started when its time is over or when this process stops waiting. What cannot be computed is a
`NotComputedError` that says what to do.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systems.pixel_llm.errors import NotComputedError
from systems.pixel_llm.evaluation.meteor import NUM_STATISTICS, summable
from systems.pixel_llm.evaluation.ngrams import check_pairs
from systems.pixel_llm.evaluation.words import tokenize_caption

__all__ = ["meteor_statistics", "spice"]

_METEOR_MEMORY, _SPICE_MEMORY = "2G", "8G"
"""The most that a program's objects may take, as its authors advise; METEOR needs 0.6 GB."""
_METEOR_SECONDS, _SPICE_SECONDS = (180.0, 0.2), (900.0, 2.0)
"""Patience: to start, and more a caption and reference; some ten times what two slow cores take."""
_SPICE_JAVA = range(8, 15)
"""SPICE writes its results through a part of Java that version 15 dropped."""
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_ENGLISH = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")


def meteor_statistics(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, timeout_seconds: float | None = None
) -> NDArray[np.float64]:
    """[N, 23] what METEOR counts in each caption against its best reference: see `evaluation.meteor`.

    Raises:
        NotComputedError: Java or pycocoevalcap is missing, or the program failed or did not end in time.
        ValueError: captions and references differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    jar = _file_of_pycocoevalcap("METEOR", "meteor/meteor-1.5.jar")
    lines = []
    for caption, wanted in zip(captions, references, strict=True):
        parts = ["SCORE", *(_words(each) for each in wanted), _words(caption)]
        lines.append(" ||| ".join(parts) + "\n")
    answer = _run_java(
        "METEOR",
        ["-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"],
        text="".join(lines),
        memory=_METEOR_MEMORY,
        timeout_seconds=timeout_seconds or _patience(_METEOR_SECONDS, references),
    )
    try:
        statistics = np.array([[float(each) for each in line.split()] for line in answer.splitlines()])
    except ValueError:
        statistics = np.zeros(0)
    if statistics.shape != (len(captions), NUM_STATISTICS):
        raise NotComputedError(
            f"METEOR answered otherwise than with {NUM_STATISTICS} counts for each of {len(captions)} captions: "
            f"{_shortened(answer)!r}. Install pycocoevalcap anew: pip install --force-reinstall 'pixel-llm[meteor]'."
        )
    return summable(statistics)


def spice(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, timeout_seconds: float | None = None
) -> NDArray[np.float64]:
    """[N] SPICE of each caption, 0..1; the score of the set is their mean. A caption without words says nothing: 0.

    Raises:
        NotComputedError: Java, pycocoevalcap or the models that SPICE needs are missing, Java is too new, or the
            program failed or did not end in time.
        ValueError: captions and references differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    jar = _file_of_pycocoevalcap("SPICE", "spice/spice-1.0.jar")
    _check_for_spice(jar.parent / "lib")
    asked = []
    for index, (caption, wanted) in enumerate(zip(captions, references, strict=True)):
        said, meant = _words(caption), [words for words in map(_words, wanted) if words]
        if said and meant:
            asked.append({"image_id": index, "test": said, "refs": meant})
    values = np.zeros(len(captions))
    if not asked:
        return values
    with tempfile.TemporaryDirectory(prefix="pixel-llm-spice-") as folder:
        asked_file, answer_file = Path(folder) / "captions.json", Path(folder) / "scores.json"
        asked_file.write_text(json.dumps(asked), encoding="ascii")
        _run_java(
            "SPICE",
            ["-jar", str(jar), str(asked_file), "-out", str(answer_file), "-silent"],
            memory=_SPICE_MEMORY,
            timeout_seconds=timeout_seconds or _patience(_SPICE_SECONDS, references),
        )
        found = _read_spice(answer_file)
    if found.keys() != {each["image_id"] for each in asked}:
        raise NotComputedError(f"SPICE scored {len(found)} captions of {len(asked)}. Run it on fewer captions at once.")
    values[list(found)] = list(found.values())
    return values


def _words(caption: str) -> str:
    """A caption's words in one line; half a surrogate pair, which no UTF-8 can say, becomes a question mark."""
    return " ".join(tokenize_caption(caption)).encode("utf-8", errors="replace").decode("utf-8")


def _patience(seconds: tuple[float, float], references: Sequence[Sequence[str]]) -> float:
    to_start, more = seconds
    return to_start + more * sum(1 + len(each) for each in references)


def _read_spice(path: Path) -> dict[int, float]:
    """Place of the caption -> its F-score."""
    try:
        found = {item["image_id"]: float(item["scores"]["All"]["f"]) for item in json.loads(path.read_bytes())}
        if not all(0 <= value <= 1 for value in found.values()):
            raise ValueError(f"expected 0..1, found {min(found.values())} to {max(found.values())}")
        return found
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NotComputedError(f"SPICE left no scores that can be read: {error}. Look at what Java prints.") from error


def _file_of_pycocoevalcap(score: str, name: str) -> Path:
    """A program that pycocoevalcap brings along; nothing of it is imported."""
    if shutil.which("java") is None:
        raise NotComputedError(
            f"{score} needs Java, and there is no `java` on the PATH. Install a Java runtime (Debian, Ubuntu: "
            "apt install default-jre-headless)."
        )
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None:
        raise NotComputedError(
            f"{score} needs pycocoevalcap, which is not installed. Run: pip install 'pixel-llm[meteor]' (104 MB)."
        )
    for folder in spec.submodule_search_locations or ():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise NotComputedError(
        f"{score} needs {name} of pycocoevalcap 1.2, which the installed one lacks. "
        "Run: pip install --force-reinstall 'pixel-llm[meteor]'."
    )


def _check_for_spice(folder: Path) -> None:
    """See that the models are in `folder` and that Java is of the right age; both are told at once."""
    wrong = []
    told = _run_java("SPICE", ["-version"], memory="64M", timeout_seconds=60.0, errors_too=True)
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    if match is None or int(match[1]) not in _SPICE_JAVA:
        found = f"Java {match[1]}" if match else _shortened(told)
        wrong.append(
            f"SPICE 1.0 runs with Java {_SPICE_JAVA[0]} to {_SPICE_JAVA[-1]}; found {found}. Put an older Java "
            "first on the PATH."
        )
    missing = [name for name in _SPICE_MODELS if not (folder / name).is_file()]
    if missing:
        wrong.append(
            f"SPICE needs {' and '.join(missing)} in {folder}, which pycocoevalcap does not bring along. To download "
            "them from Stanford, some hundred MB, run: python -m pycocoevalcap.spice.get_stanford_models"
        )
    if wrong:
        raise NotComputedError(" ".join(wrong))


def _run_java(
    score: str,
    arguments: Sequence[str],
    *,
    text: str = "",
    memory: str,
    timeout_seconds: float,
    errors_too: bool = False,
) -> str:
    """What `java ARGUMENTS` prints when it is given `text`; with what it says on the error stream, where asked for."""
    with tempfile.TemporaryDirectory(prefix="pixel-llm-java-") as folder:
        options = [f"-Xmx{memory}", "-XX:+IgnoreUnrecognizedVMOptions", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        java = Path(shutil.which("java") or "java").absolute()
        try:
            process = subprocess.Popen(
                [java, *options, *_ENGLISH, f"-Djava.io.tmpdir={folder}", *arguments],
                cwd=folder,  # where a Java that breaks down leaves its report
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a group of its own, to end it whole
            )
        except OSError as error:
            raise NotComputedError(f"{score} failed: {java} cannot be run: {error}. Install Java anew.") from error
        try:
            output, errors = process.communicate(text.encode("utf-8"), timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise NotComputedError(
                f"{score} did not end in {timeout_seconds:.0f} seconds and was stopped. Score fewer captions at once."
            ) from error
        finally:
            _end(process)
    told, complaint = output.decode("utf-8", errors="replace"), errors.decode("utf-8", errors="replace")
    if process.returncode:
        raise NotComputedError(
            f"{score} failed: java ended with status {process.returncode} and said {_shortened(complaint or told)!r}. "
            "See that `java -version` works, and that there is memory."
        )
    return told + complaint if errors_too else told


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started, if it still runs, and close the pipes."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _shortened(text: str, most: int = 300) -> str:
    """Its last words, where a program says why."""
    text = text.strip()
    return text if len(text) <= most else "..." + text[-most:]
