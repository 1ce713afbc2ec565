"""The cache of scans: it opens no picture twice, forgets what changed, and is never in the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from systems.pixel_llm.data import images, scan_cache
from systems.pixel_llm.data.cache_folder import cache_folder
from systems.pixel_llm.data.duplicates import find_duplicates
from systems.pixel_llm.data.inspection_pictures import BadPicture, scan_pictures
from systems.pixel_llm.data.scan_cache import ScanCache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL_LLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def opened(monkeypatch):
    """The pictures that are really looked at, from now on."""
    seen = []

    def scan(paths, **options):
        seen.extend(path.name for path in paths)
        return scan_pictures(paths, **options)

    monkeypatch.setattr(scan_cache, "scan_pictures", scan)
    return seen


@pytest.fixture
def data(tiny_picture_folder, write_bad_pictures):
    folder = tiny_picture_folder(text=False)
    write_bad_pictures(folder)
    return folder


def scan(folder, paths=None):
    with ScanCache(folder) as cache:
        return cache.scan(sorted(folder.iterdir()) if paths is None else paths)


def cache_file():
    (file,) = (cache_folder() / "scans").iterdir()
    return file


def test_a_second_look_opens_nothing_and_finds_the_same(data, opened):
    paths = [*sorted(data.iterdir()), data / "bad_absent.jpg"]
    first = scan(data, paths)
    assert first == scan_pictures(paths)
    assert len(opened) == len(first)
    opened.clear()
    again = scan(data, paths)
    assert again == first
    # What is no file of its own has no size and no time to be known by.
    assert sorted(opened) == ["bad_absent.jpg", "bad_folder.png", "bad_loop.jpg", "bad_pipe.jpg"]
    assert {each.path.name for each in again if isinstance(each, BadPicture)} >= {"bad_truncated.jpg", "bad_bomb.png"}


def test_within_one_look_nothing_is_opened_twice(data, opened):
    cache, heard = ScanCache(), []
    paths = sorted(data.iterdir())
    assert cache.count_unknown(paths) == len(paths)
    first = cache.scan(paths, on_progress=heard.append)
    assert cache.count_unknown(paths) == 0
    assert cache.scan(paths, on_progress=heard.append) == first
    assert sum(heard) == len(opened) == len(paths)
    cache.save()
    assert not cache_folder().exists()  # no folder, no file


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_picture_that_changed_is_looked_at_again(tiny_picture_folder, opened, change):
    folder = tiny_picture_folder(text=False)
    before = scan(folder)
    changed = folder / "picture_01.png"
    if change == "size":
        status = changed.stat()
        changed.write_bytes(changed.read_bytes()[:80])
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(changed, ns=(0, 0))
    opened.clear()
    after = scan(folder)
    assert "picture_01.png" in opened
    assert "picture_00.jpg" not in opened
    assert (after == before) == (change == "time")
    opened.clear()
    assert scan(folder) == after
    assert "picture_01.png" not in opened


def test_the_folder_may_be_named_in_other_words(tiny_picture_folder, opened, in_tmp_path):
    folder = tiny_picture_folder(text=False)
    scan(folder)
    opened.clear()
    (in_tmp_path / "link").symlink_to(folder)
    relative = Path(folder.name)
    found = scan(in_tmp_path / "link", sorted(relative.iterdir()))
    assert opened == []
    assert [each.path for each in found] == sorted(relative.iterdir())


def test_pictures_that_are_gone_are_forgotten_and_those_of_another_list_are_not(tiny_picture_folder):
    folder = tiny_picture_folder(text=False)
    paths = sorted(folder.iterdir())
    scan(folder, paths[:4])
    paths[0].unlink()  # not asked for below
    paths[1].unlink()  # asked for
    scan(folder, [paths[1], *paths[4:]])
    kept = [json.loads(line)[0] for line in cache_file().read_text(encoding="utf-8").splitlines()[1:]]
    assert sorted(kept) == [str(path) for path in paths[2:]]


def spoil(file, how):
    content = file.read_bytes()
    head, _, body = content.partition(b"\n")
    if how == "cut":
        file.write_bytes(content[:-30])
    elif how == "one digit":
        file.write_bytes(head + b"\n" + body.replace(b"[", b" [", 1))
    elif how == "older":
        file.write_bytes(json.dumps(json.loads(head) | {"version": 0}).encode() + b"\n" + body)
    elif how == "program":
        file.write_bytes(json.dumps(json.loads(head) | {"program": "0"}).encode() + b"\n" + body)
    elif how == "another pillow":
        file.write_bytes(json.dumps(json.loads(head) | {"pillow": "1.0"}).encode() + b"\n" + body)
    elif how in ("[" * 200_000, "text", "", "\0\n\0"):
        file.write_text(how, encoding="utf-8")
    elif how == "a folder":
        file.unlink()
        file.mkdir()
    elif how == "a pipe":
        file.unlink()
        os.mkfifo(file)


WAYS = [
    "cut",
    "one digit",
    "older",
    "program",
    "another pillow",
    "[" * 200_000,
    "text",
    "",
    "\0\n\0",
    "a folder",
    "a pipe",
]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: how[:9].strip("\0\n") or "nothing")
def test_a_file_that_is_not_to_be_relied_on_is_no_cache(tiny_picture_folder, opened, how):
    folder = tiny_picture_folder(text=False)
    first = scan(folder)
    spoil(cache_file(), how)
    opened.clear()
    assert scan(folder) == first
    assert len(opened) == len(first)
    opened.clear()
    assert scan(folder) == first
    assert opened == ([] if how != "a folder" else [path.name for path in sorted(folder.iterdir())])


@pytest.mark.parametrize(
    "line",
    ["{}", "[1]", '[1, [1, 1], "x", null]', '["a", [1], "x", null]', '["a", [1, 1], 7, null]', '["a", [1, 1], "x", 7]'],
)
def test_lines_of_another_form_are_no_cache(tiny_picture_folder, opened, line):
    folder = tiny_picture_folder(count=1, text=False)
    scan(folder)
    body = line.encode() + b"\n"
    head = json.dumps(scan_cache._head(str(folder), body)).encode()
    cache_file().write_bytes(head + b"\n" + body)
    scan(folder)
    assert opened == ["picture_00.jpg", "picture_00.jpg"]


@pytest.mark.parametrize(
    "found", [[], [1] * 9, ["JPEG", "RGB", 0, 4, 0, 0, 0, 1, "00" * 48], ["JPEG", "RGB", 4, 4, 0, 0, 0, -1, "00" * 48]]
)
def test_a_record_of_another_form_is_looked_at_again(tiny_picture_folder, opened, found):
    folder = tiny_picture_folder(count=1, text=False)
    first = scan(folder)
    name, state, _, digest = json.loads(cache_file().read_text(encoding="utf-8").splitlines()[1])
    body = json.dumps([name, state, found, digest]).encode() + b"\n"
    cache_file().write_bytes(json.dumps(scan_cache._head(str(folder), body)).encode() + b"\n" + body)
    assert scan(folder) == first
    assert opened == ["picture_00.jpg", "picture_00.jpg"]


def test_a_file_that_is_too_large_is_not_read(tiny_picture_folder, opened, monkeypatch):
    folder = tiny_picture_folder(text=False)
    scan(folder)
    size = cache_file().stat().st_size
    monkeypatch.setattr(scan_cache, "MAX_BYTES", size - 1)
    opened.clear()
    scan(folder)
    assert len(opened) == 6


def test_a_cache_that_cannot_be_written_is_told_once_and_no_error(tiny_picture_folder, tmp_path, caplog):
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    folder = tiny_picture_folder(text=False)
    with ScanCache(folder) as cache:
        cache.scan(sorted(folder.iterdir()))
        cache.save()
    (message,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert message.startswith(f"What was seen in the pictures cannot be kept in {tmp_path}/cache/scans (")
    assert "PIXEL_LLM_CACHE" in message


def test_a_half_written_file_is_never_there(tiny_picture_folder, monkeypatch):
    folder = tiny_picture_folder(text=False)

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    scan(folder)
    assert list((cache_folder() / "scans").iterdir()) == []


def test_what_was_seen_before_ctrl_c_is_kept(tiny_picture_folder, monkeypatch, opened):
    folder = tiny_picture_folder(text=False)
    monkeypatch.setattr(scan_cache, "_SCANNED_AT_ONCE", 2)

    def stop(count):
        if len(opened) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ScanCache(folder) as cache:
        cache.scan(sorted(folder.iterdir()), on_progress=stop)
    with ScanCache(folder) as cache:
        assert cache.count_unknown(sorted(folder.iterdir())) == 2


def test_what_a_file_is_not_to_blame_for_is_not_kept(tiny_picture_folder, monkeypatch, opened):
    folder = tiny_picture_folder(count=2, text=False)
    denied = folder / "picture_01.png"
    plainly_open = images.open_picture_bytes

    def deny(path):
        if path == denied:
            raise PermissionError(13, "Permission denied")
        return plainly_open(path)

    with monkeypatch.context() as patch:
        patch.setattr(images, "open_picture_bytes", deny)
        first = scan(folder)
    assert isinstance(first[1], BadPicture)
    again = scan(folder)
    assert not isinstance(again[1], BadPicture)
    assert opened == ["picture_00.jpg", "picture_01.png", "picture_01.png"]


def test_digests_of_pictures_that_look_the_same_are_kept(tiny_picture_folder, monkeypatch):
    folder = tiny_picture_folder(count=2, text=False)
    for number in range(3):
        (folder / f"copy_{number}.png").write_bytes((folder / "picture_01.png").read_bytes())
    reads = []
    monkeypatch.setattr(scan_cache, "file_digest", lambda path: (reads.append(path.name), path.read_bytes()[-16:])[1])
    for _ in range(2):
        with ScanCache(folder) as cache:
            (group,) = find_duplicates(cache.scan(sorted(folder.iterdir())), digest=cache.digest)
        assert (group.is_exact, group.num_copies, len(group.paths)) == (True, 3, 4)
    assert len(reads) == 4


def test_names_that_are_no_text_are_kept(tmp_path, tiny_picture_folder, opened):
    folder = tiny_picture_folder(count=1, text=False)
    try:
        (folder / "picture_00.jpg").rename(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9\n.jpg")))
    except OSError:
        pytest.skip("this file system has no such names")
    first = scan(folder)
    assert scan(folder) == first
    assert len(opened) == 1


def test_another_process_knows_what_this_one_saw(tiny_picture_folder, repository_root):
    folder = tiny_picture_folder(text=False)
    scan(folder)
    script = (
        "import sys; from pathlib import Path; from systems.pixel_llm.data.scan_cache import ScanCache\n"
        "folder = Path(sys.argv[1]); print(ScanCache(folder).count_unknown(sorted(folder.iterdir())))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=repository_root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "0"
