"""Which folder a run gets, and what `options.toml` in it tells."""

from pathlib import Path

import pytest

from systems.pixel_llm.cli.options import parse_train
from systems.pixel_llm.cli.run_folder import (
    RunFolder,
    make_run_folder,
    new_run_folder,
    recorded_data,
    resumed_run_folder,
    write_options,
)
from systems.pixel_llm.errors import ConfigError, PixelLLMError


def test_a_run_is_named_after_its_data_and_numbered_when_taken(in_tmp_path):
    for name in ("holiday", "holiday-2", "holiday-3"):
        folder = new_run_folder(None, name="holiday")
        assert folder.path == Path("runs") / name
        make_run_folder(folder)
        folder.options.write_text("", encoding="utf-8")


@pytest.mark.parametrize(("name", "wanted"), [("my pictures!", "my_pictures"), ("", "run"), ("..", "run")])
def test_a_name_that_is_no_good_for_a_folder_is_made_good(in_tmp_path, name, wanted):
    assert new_run_folder(None, name=name).path == Path("runs") / wanted


def test_nothing_is_made_before_there_is_something_to_write(in_tmp_path):
    new_run_folder(None, name="holiday")
    new_run_folder(Path("run"), name="holiday")
    resumed_run_folder(Path("run"))
    assert list(in_tmp_path.iterdir()) == []


def test_a_used_folder_is_refused_with_the_way_to_go_on(in_tmp_path):
    (in_tmp_path / "run").mkdir()
    new_run_folder(Path("run"), name="x")  # empty: unused
    (in_tmp_path / "run" / "note").touch()
    with pytest.raises(PixelLLMError, match=r"--out run is used already\. Add --resume"):
        new_run_folder(Path("run"), name="x")


@pytest.mark.parametrize("find", [lambda out: new_run_folder(out, name="x"), resumed_run_folder])
def test_a_file_is_no_run_folder(in_tmp_path, find):
    (in_tmp_path / "run").touch()
    with pytest.raises(PixelLLMError, match=r"--out run is a file\. Name a folder"):
        find(Path("run"))


def test_a_folder_that_cannot_be_made_is_named(in_tmp_path):
    (in_tmp_path / "file").touch()
    with pytest.raises(PixelLLMError, match="--out file/run cannot be made"):
        make_run_folder(RunFolder(Path("file/run")))


def test_resume_without_a_folder_is_wrong_usage():
    with pytest.raises(ConfigError, match="--resume needs --out RUN"):
        resumed_run_folder(None)


def test_resume_takes_a_run_that_has_not_saved_yet_but_no_other_folder(in_tmp_path):
    assert resumed_run_folder(Path("absent")) == (RunFolder(Path("absent")), False)
    (in_tmp_path / "run").mkdir()
    (in_tmp_path / "run" / "options.toml").touch()
    assert resumed_run_folder(Path("run")) == (RunFolder(Path("run")), False)
    (in_tmp_path / "other").mkdir()
    (in_tmp_path / "other" / "holiday.jpg").touch()
    with pytest.raises(PixelLLMError, match="--out other holds other files, and no run to resume"):
        resumed_run_folder(Path("other"))


def test_paths_are_recorded_so_that_they_hold_from_any_folder(in_tmp_path, monkeypatch):
    (in_tmp_path / "pictures").mkdir()
    (in_tmp_path / "captions.json").touch()
    words = ["pictures", "--device", "cpu", "--manifest", "captions.json", "--val-manifest", "inside_data.json"]
    folder = RunFolder(in_tmp_path)
    write_options(folder, parse_train(words))
    assert recorded_data(folder) == (in_tmp_path / "pictures",)
    assert f'data = "{in_tmp_path / "pictures"}"' in folder.options.read_text(encoding="utf-8")
    again = parse_train(["x", "--device", "cpu", "--config", str(folder.options)])
    assert again.dataset.manifest == in_tmp_path / "captions.json"
    # One that is not there from here is relative to DATA, and stays so.
    assert again.dataset.val_manifest == Path("inside_data.json")


def test_the_options_of_a_run_reproduce_its_settings(in_tmp_path):
    words = [
        "x", "--preset", "small", "--image-size", "96x128", "--max-grad-norm", "none", "--schedule", "constant",
        "--epochs", "3", "--seed", "5", "--learning-rate", "0.002", "--batch-size", "7", "--validation-fraction", "0.2",
        "--checkpoint-interval", "2", "--text-embed-dim", "64",
    ]  # fmt: skip
    first = parse_train(words)
    write_options(RunFolder(in_tmp_path), first)
    again = parse_train(["x", "--config", "options.toml"])
    assert (again.dataset, again.model, again.training) == (first.dataset, first.model, first.training)
    assert (again.run.epochs, again.run.preset, again.run.checkpoint_interval) == (3, "small", 2)


def test_several_data_folders_and_their_weights_are_recorded(in_tmp_path):
    for name in ("one", "two"):
        (in_tmp_path / name).mkdir()
    folder = RunFolder(in_tmp_path)
    write_options(folder, parse_train(["one", "two", "--weights", "2,0.25", "--repeats", "use", "--device", "cpu"]))
    assert recorded_data(folder) == (in_tmp_path / "one", in_tmp_path / "two")
    again = parse_train(["one", "two", "--device", "cpu", "--config", "options.toml"])
    assert (again.dataset.weights, again.dataset.repeats) == ((2.0, 0.25), "use")
    # Whoever goes on with another number of folders has other weights, or none.
    assert parse_train(["one", "--config", "options.toml", "--weights", "none"]).dataset.weights is None


def test_data_that_is_not_recorded_is_not_known(in_tmp_path):
    folder = RunFolder(in_tmp_path)
    assert recorded_data(folder) is None
    folder.options.write_text("seed = 1\n", encoding="utf-8")
    assert recorded_data(folder) is None
    for data in ("[]", "[1]", "3"):
        folder.options.write_text(f"data = {data}\n", encoding="utf-8")
        assert recorded_data(folder) is None
    folder.options.write_text("not TOML", encoding="utf-8")
    assert recorded_data(folder) is None
