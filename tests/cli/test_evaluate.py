"""`pixel-llm evaluate`: which pictures are scored, what is printed and written, and what a newcomer is told."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from systems.pixel_llm.cli.evaluation_summary import verdict
from systems.pixel_llm.cli.options import parse_caption, parse_evaluate, parse_train
from systems.pixel_llm.cli.train import read_data
from systems.pixel_llm.evaluation.evaluate import BEAM_SEARCH
from systems.pixel_llm.evaluation.evaluation_files import read_evaluation
from systems.pixel_llm.evaluation.score import Difference
from systems.pixel_llm.models.generation_options import GenerationOptions
from tests.cli.conftest import TINY

QUICK = ["--num-workers", "0"]


@pytest.fixture(autouse=True)
def without_java(monkeypatch, tmp_path_factory):
    """METEOR would take some ten seconds a test where it is installed."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("no_programs")))
    monkeypatch.delenv("JAVA_HOME", raising=False)


def several_captions(pictures, name="manifest.json", count=12):
    """A manifest of two captions for each of the first pictures."""
    names = sorted(path.name for path in pictures.glob("*.png"))[:count]
    content = {each: [f"a square {number}", f"one square number {number}"] for number, each in enumerate(names)}
    (pictures / name).write_text(json.dumps(content), encoding="utf-8")
    return pictures


def images(folder):
    return [Path(each.image) for each in read_evaluation(folder).pictures]


def trained_sides(run):
    data = re.search(r'^data = "(.*)"$', (run / "options.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    return read_data(parse_train([data]))


# --- which pictures ---------------------------------------------------------------------------------------------------


def test_a_run_is_scored_on_the_pictures_it_was_validated_on(pixel_llm, trained_run):
    ended = pixel_llm("evaluate", trained_run, QUICK)
    assert ended.status == 0
    assert "scoring the pictures that it was validated on (--split val)" in ended.err
    out = trained_run / "evaluation" / "pictures-val"
    assert images(out) == [sample.image_path for sample in trained_sides(trained_run).validation]
    assert ended.lines[-2:] == [f"scores: {out}/scores.json", f"captions: {out}/captions.jsonl"]
    # The run's own end has said the same.
    scores_of_training = read_evaluation(trained_run / "evaluation").scores
    assert read_evaluation(out).scores[: len(scores_of_training)] == scores_of_training


def test_training_pictures_are_warned_of(pixel_llm, trained_run):
    ended = pixel_llm("evaluate", trained_run, "--split", "train", QUICK)
    assert ended.status == 0
    told = "10 of the 10 pictures are training pictures of this run: the scores tell how well it remembers"
    assert f"warning: {told}" in ended.err
    result = read_evaluation(trained_run / "evaluation" / "pictures-train")
    assert any(each.startswith(told) for each in result.caveats)
    assert len(result.pictures) == 10


def test_other_data_is_scored_whole(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", QUICK)
    assert ended.status == 0
    assert "warning" not in ended.err
    assert images(Path("out")) == sorted(path.absolute() for path in pictures.glob("*.png"))
    result = read_evaluation(Path("out"))
    assert set(result.baselines) == {"constant", "nearest"}
    assert (result.split, result.data) == ("all", (str(pictures.resolve()),))


@pytest.mark.parametrize(("split", "count"), [("val", 2), ("train", 10)])
def test_other_data_has_the_sides_that_train_would_make(pixel_llm, trained_run, pictures, split, count):
    assert pixel_llm("evaluate", trained_run, pictures, "--split", split, "--out", "out", QUICK).status == 0
    assert len(images(Path("out"))) == count


def test_a_manifest_of_the_run_s_own_folder(pixel_llm, trained_run, pictures):
    several_captions(pictures, "test.json", count=5)
    ended = pixel_llm("evaluate", trained_run, pictures, "--manifest", "test.json", "--out", "out", QUICK)
    assert ended.status == 0
    result = read_evaluation(Path("out"))
    assert [len(each.references) for each in result.pictures] == [2] * 5
    assert result.human is not None


def test_some_pictures_evenly_spaced(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--num-pictures", 3, "--out", "out", QUICK)
    assert ended.status == 0
    assert [path.name for path in images(Path("out"))] == ["picture_00.png", "picture_04.png", "picture_08.png"]


@pytest.mark.parametrize(("split", "count"), [("test", 4), ("val", 2), ("all", 12)])
def test_shards_by_their_names(pixel_llm, trained_run, pictures, split, count):
    paths, start = sorted(pictures.glob("*.png")), 0
    Path("shards").mkdir()
    for name, size in {"train": 6, "val": 2, "test": 4}.items():
        with tarfile.open(f"shards/{name}-000.tar", "w") as archive:
            for path in paths[start : start + size]:
                archive.add(path, path.name)
                archive.add(path.with_suffix(".txt"), path.with_suffix(".txt").name)
        start += size
    ended = pixel_llm("evaluate", trained_run, "shards", "--split", split, "--out", "out", QUICK)
    assert ended.status == 0
    assert len(images(Path("out"))) == count
    if split != "all":
        assert {path.parent for path in images(Path("out"))} == {Path(f"shards/{split}-000.tar").absolute()}


def test_a_run_on_several_folders(pixel_llm, pictures):
    shutil.copytree(pictures, "others")
    assert pixel_llm("train", pictures, "others", TINY, "--max-steps", 1, "--out", "both").status == 0
    assert pixel_llm("evaluate", "both", QUICK).status == 0
    found = images(Path("both/evaluation/pictures-val"))
    assert found == images(Path("both/evaluation"))
    assert {path.parent.name for path in found} == {"pictures", "others"}
    ended = pixel_llm("evaluate", "both", pictures, "others", "--manifest", "a.json", QUICK)
    assert ended.status == 2
    assert "names the pictures of one folder, and DATA names 2" in ended.err


def test_a_test_side_that_is_not_there(pixel_llm, trained_run):
    ended = pixel_llm("evaluate", trained_run, "--split", "test", QUICK)
    assert ended.status == 1
    assert "has no list or shards for a test. Name one with --manifest FILE" in ended.err


def test_a_model_alone_needs_data_and_a_folder(pixel_llm, trained_run, pictures):
    model = shutil.copytree(next((trained_run / "checkpoints").iterdir()), "model")
    ended = pixel_llm("evaluate", model, QUICK)
    assert (ended.status, ended.out) == (2, "")
    assert "does not tell what it was trained on. Name the folder of the pictures" in ended.err
    ended = pixel_llm("evaluate", model, pictures, QUICK)
    assert ended.status == 2
    assert "Name a folder with --out" in ended.err
    ended = pixel_llm("evaluate", model, pictures, "--out", "out", QUICK)
    assert ended.status == 0
    told = (
        "one caption for all, nearest neighbour, share copied from training: model does not tell what it was trained on"
    )
    assert f"not computed: {told} (--train-data FOLDER names it)" in ended.out
    ended = pixel_llm("evaluate", model, pictures, "--out", "out", "--overwrite", "--train-data", pictures, QUICK)
    assert "warning: 12 of the 12 pictures are training pictures" in ended.err
    assert set(read_evaluation(Path("out")).baselines) == {"constant", "nearest"}


def test_a_checkpoint_finds_the_run_around_it(pixel_llm, trained_run):
    checkpoint = next((trained_run / "checkpoints").iterdir())
    assert pixel_llm("evaluate", checkpoint, QUICK).status == 0
    assert read_evaluation(trained_run / "evaluation" / "pictures-val").baselines.keys() == {"constant", "nearest"}


def test_training_data_that_is_gone_costs_the_baselines_alone(pixel_llm, trained_run, pictures):
    options = trained_run / "options.toml"
    text = re.sub(r"^data = .*$", 'data = "/absent"', options.read_text(encoding="utf-8"), flags=re.MULTILINE)
    options.write_text(text, encoding="utf-8")
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", QUICK)
    assert ended.status == 0
    result = read_evaluation(Path("out"))
    assert result.baselines == {}
    assert (
        "the training pictures of the run cannot be read: The data folder /absent does not exist"
        in (result.not_computed["nearest"])
    )
    assert not re.search(r"^ nearest neighbour ", ended.out, re.MULTILINE)
    assert "share copied from training: the training pictures of the run cannot be read" in ended.out


def test_bad_pictures_are_left_out_and_listed(pixel_llm, trained_run, pictures):
    (pictures / "picture_03.png").write_bytes(b"no picture")
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", QUICK)
    assert ended.status == 0
    assert "1 of 12 pictures could not be read" in ended.out
    (line,) = Path("out/bad_pictures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["path"] == "pictures/picture_03.png"
    for path in pictures.glob("*.png"):
        path.write_bytes(b"")
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "other", QUICK)
    assert ended.status == 1
    assert "None of the 12 pictures can be read" in ended.err
    assert not Path("other").exists()


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_and_fits_a_terminal(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, several_captions(pictures), "--out", "out", "--format", "json", QUICK)
    assert ended.status == 0
    result = read_evaluation(Path("out"))
    rows = {line[:22].strip(): line[22:].split() for line in ended.lines if re.match(r" \w.* \d\.\d{3}", line)}
    assert list(rows) == ["model", "nearest neighbour", "one caption for all", "model, same refs", "people"]
    names = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D")
    for row, scores in {
        "model": result.scores,
        "nearest neighbour": result.baselines["nearest"].scores,
        "one caption for all": result.baselines["constant"].scores,
        "model, same refs": result.human.model.scores,
        "people": result.human.human.scores,
    }.items():
        by_name = {each.name: each for each in scores}
        references = "1" if row in ("model, same refs", "people") else "2"
        assert rows[row][:5] == [references, *(f"{by_name[name].value:.3f}" for name in names)]
    low, high = result.score("CIDEr-D").interval
    assert rows["model"][5:] == [f"{low:.3f}", "to", f"{high:.3f}"]
    assert "note: CIDEr over 12 pictures means little" in ended.out


def test_settings_of_captioning_are_used_and_recorded(pixel_llm, trained_run, pictures):
    ended = pixel_llm(
        "evaluate", trained_run, pictures, "--out", "out", "--num-beams", 1, "--max-length", 3, QUICK
    )  # fmt: skip
    assert ended.status == 0
    result = read_evaluation(Path("out"))
    assert (result.generation["num_beams"], result.generation["max_length"]) == (1, 3)
    captions = pixel_llm(
        "caption", trained_run, sorted(pictures.glob("*.png")), "--max-length", 3, "--num-beams", 1
    ).lines
    assert [each.caption for each in result.pictures] == [line.partition("\t")[2] for line in captions]
    assert all(each.log_probability < 0 for each in result.pictures)


def test_an_evaluation_is_not_overwritten_unasked(pixel_llm, trained_run):
    assert pixel_llm("evaluate", trained_run, QUICK).status == 0
    scores = trained_run / "evaluation" / "pictures-val" / "scores.json"
    before = scores.read_bytes()
    ended = pixel_llm("evaluate", trained_run, QUICK)
    assert (ended.status, ended.out) == (1, "")
    assert "holds an evaluation already. Add --overwrite" in ended.err
    assert scores.read_bytes() == before
    assert pixel_llm("evaluate", trained_run, "--overwrite", "--num-beams", 1, QUICK).status == 0
    assert scores.read_bytes() != before


def test_a_folder_that_cannot_be_made_is_told_before_captioning(pixel_llm, trained_run):
    ended = pixel_llm("evaluate", trained_run, "--out", trained_run / "options.toml" / "out", QUICK)
    assert (ended.status, ended.out) == (1, "")
    assert "options.toml/out cannot be made" in ended.err
    assert "Captioning" not in ended.err


def test_document_frequencies_from_a_file(pixel_llm, trained_run, pictures):
    first = pixel_llm(
        "evaluate", trained_run, pictures, "--out", "a", "--write-document-frequencies", "df.json", QUICK
    )  # fmt: skip
    assert "document frequencies: df.json" in first.out
    second = pixel_llm("evaluate", trained_run, pictures, "--out", "b", "--document-frequencies", "df.json", QUICK)
    assert second.status == 0
    assert "CIDEr over 12 pictures" not in second.out
    one, other = (read_evaluation(Path(name)).score("CIDEr-D") for name in ("a", "b"))
    assert "df:12-pictures" in other.signature
    assert other.value == pytest.approx(one.value)
    ended = pixel_llm("evaluate", trained_run, pictures, "--document-frequencies", "absent.json", QUICK)
    assert ended.status == 1
    assert "absent.json cannot be read as document frequencies" in ended.err


def test_captions_are_made_as_caption_makes_them():
    made = parse_caption(["RUN", "PICTURE"]).generation
    assert parse_evaluate(["RUN"]).generation == made == BEAM_SEARCH
    assert parse_evaluate(["RUN", "--do-sample"]).generation == GenerationOptions(do_sample=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--num-return-sequences", "2"], "one is scored"),
        (["--num-pictures", "0"], "--num-pictures must be a whole number at least 1"),
        (["--num-workers", "-1"], "--num-workers must be a whole number at least 0"),
        (["--do-sample", "--num-beams", "3"], "choose one"),
    ],
)
def test_options_that_make_no_sense(pixel_llm, trained_run, words, told):
    ended = pixel_llm("evaluate", trained_run, words)
    assert ended.status == 2
    assert told in " ".join(ended.err.split())


# --- two runs ---------------------------------------------------------------------------------------------------------


def test_two_runs_on_the_same_pictures(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", "--compare", trained_run, QUICK)
    assert ended.status == 0
    assert "run less run, on the same 12 pictures" in ended.out
    assert "No difference that 12 pictures can show (CIDEr-D +0.000, p = 1.000)." in ended.out
    content = json.loads(Path("out/scores.json").read_text(encoding="utf-8"))
    assert content["comparison"]["run"]["cider_d"]["difference"] == 0


def test_an_earlier_evaluation_of_some_of_the_pictures(pixel_llm, trained_run, pictures):
    assert pixel_llm("evaluate", trained_run, pictures, "--num-pictures", 4, "--out", "earlier", QUICK).status == 0
    ended = pixel_llm(
        "evaluate", trained_run, pictures, "--num-pictures", 6, "--out", "out", "--compare", "earlier", QUICK
    )  # fmt: skip
    assert ended.status == 0
    assert re.search(r"earlier has captions of \d of the 6 pictures: compared on those", ended.err)


def test_what_cannot_be_compared_is_told(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", "--compare", "absent", QUICK)
    assert (ended.status, ended.out) == (1, "")
    assert "absent: there is no such folder" in ended.err
    assert pixel_llm("evaluate", trained_run, "--out", "own", QUICK).status == 0
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", "--compare", "own", QUICK)
    assert ended.status == 1
    assert "own has captions of other pictures" in ended.err
    assert len(images(Path("out"))) == 12  # nothing is lost by it


@pytest.mark.parametrize(
    ("value", "p_value", "told"),
    [
        (0.2, 0.003, "runs/a is better than runs/b (CIDEr-D +0.200, p = 0.003)."),
        (-0.2, 0.003, "runs/b is better than runs/a (CIDEr-D -0.200, p = 0.003)."),
        (0.2, 0.3, "No difference that 250 pictures can show (CIDEr-D +0.200, p = 0.300)."),
    ],
)
def test_the_verdict(value, p_value, told):
    differences = [Difference("BLEU-4", 0.5, (0.4, 0.6), 0.001), Difference("CIDEr-D", value, (0.0, 0.0), p_value)]
    assert verdict(differences, one="runs/a", other="runs/b", num_pictures=250) == told


# --- scores that need more than this package --------------------------------------------------------------------------


def test_optional_scores_have_a_value_or_a_reason(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--out", "out", QUICK)
    assert ended.status == 0
    result = read_evaluation(Path("out"))
    computed = {each.name for each in result.scores}
    for name in ("chrf", "meteor", "spice", "clip_score", "ref_clip_score"):
        assert (name in computed) != (name in result.not_computed)
    assert (
        "not computed: CLIPScore, RefCLIPScore: it needs a CLIP model on this machine: name its folder with --clip"
        in (ended.out)
    )


def test_a_clip_folder_that_is_not_there_is_told_at_once(pixel_llm, trained_run):
    ended = pixel_llm("evaluate", trained_run, "--clip", "absent", QUICK)
    assert (ended.status, ended.out) == (2, "")
    assert "--clip absent: there is no such folder" in ended.err


def test_a_folder_that_holds_no_clip_model_costs_those_scores_alone(pixel_llm, trained_run, pictures):
    ended = pixel_llm("evaluate", trained_run, pictures, "--clip", pictures, "--out", "out", QUICK)
    assert ended.status == 0
    assert "clip_score" in read_evaluation(Path("out")).not_computed
