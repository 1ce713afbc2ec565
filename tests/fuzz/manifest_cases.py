"""Caption files and manifests that are nearly right: one maker a format, each writing files for a folder of pictures.

The folder (`targets` makes it) has a.jpg, sub/b.JPG, 2_x/a.png, and out.jpg, a link that leads out. A maker writes
text from pieces, right and wrong ones; then the text is encoded, rightly or not, and some of the bytes are damaged. The
makers of packed formats (tar, Parquet) make real files and damage those.
"""

import csv
import io
import json
import random
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.fuzz.byte_mutations import mutate_bytes, odd_number
from tests.fuzz.picture_seeds import picture_seeds

__all__ = ["MANIFEST_MAKERS", "NAMES_TO_LOOK_AT", "Case"]


@dataclass(frozen=True)
class Case:
    """Files to put into the folder, and how it is to be read."""

    files: dict[str, bytes]
    """Name within the folder -> content."""
    manifest: str | None = None
    """The file that is named as manifest."""
    options: dict[str, str] = field(default_factory=dict)


GOOD_NAMES = ("a.jpg", "sub/b.JPG", "b.jpg", "2_x/a.png", "./a.jpg", "sub/../a.jpg", "A.JPG", "a.JPG")
ODD_NAMES = (
    *("", " ", ".", "..", "/", "\\", "~", "../a.jpg", "sub/../../a.jpg", "../secret.jpg", "/etc/passwd"),
    *("/etc/hostname",),
    *("C:\\a.jpg", "c:/a.jpg", "\\\\server\\a.jpg", "~/a.jpg", "~root/a.jpg", "file:///etc/passwd", "http://x/a.jpg"),
    *("out.jpg", "loop.jpg", "pipe.jpg", "folder.jpg", "away/hostname", "gone.jpg", "a.jpg/", "a.jpg/b", "sub", "sub/"),
    *("a\0.jpg", "a\n.jpg", "a\x1b[31m.jpg", "\ud800.jpg", "\udcff.jpg", "e\u0301.jpg", "\u00e9.jpg", "🙂.jpg"),
    *("a\u202e.jpg",),
    *("CON", "a.jpg::$DATA", "%2e%2e/a.jpg", "a" * 300, "a" * 5000, "a/" * 3000, "../" * 2000),
    *("e" + "\u0301\u0327" * 3000,),
)  # fmt: skip
GOOD_CAPTIONS = (
    "a cat",
    "one cat, black",
    'a "quoted" dog',
    "ein grüner Hügel",
    "حصان أحمر",
    "👩\u200d👩\u200d👧",
    "two\nlines",
)
ODD_CAPTIONS = (
    *("", " ", "\t", "\u3000", "\0", "\x1b]0;title\x07", "\x9b31m", "\ufeff", "\u200d", "\u0301" * 2000, "\u2028"),
    *("\ud83d",),
    *("'", '"', "\\", ",", "x" * 3000, "x" * 100_001, "<script>", "${x}", "%s%n", "#0\t", "NaN", "a\udcff"),
)  # fmt: skip
ODD_JSON = (
    *("null", "true", "0", "-0", "1.5", "1e999", "-1e999", "NaN", "Infinity", "9" * 4000, "9" * 5000),
    *("1" + "0" * 400 + ".0",),
    *("[]", "{}", "[[]]", '{"a": 1}', '["a", 1]', "[" * 2000 + "]" * 2000, "[" * 50_000, '{"a":' * 3000),
    *('"\\ud800"', '"\\u"', '"\\x"'),
    *('"', "'a'", "", ",", "//", "\x00", "undefined", "0x10", "+1", "1_000", '"a"b"'),
)  # fmt: skip
NAME_KEYS = ("file_name", "image", "path", "filename", "img", "File Name", "image_path")
CAPTION_KEYS = ("text", "caption", "captions", "description", "Text")

_TEXT_TOKENS = tuple(
    piece.encode("utf-8", "surrogatepass")
    for piece in (
        *("{", "}", "[", "]", ":", ",", '"', "\\", "\n", "\r", "\r\n", "\t", ";", "|", "#", "#0\t", "\0"),
        *("\x1b[31m", "\u2028"),
        *("null", "-0", "1e999", "NaN", "9" * 5000, "\\ud800", "../", "/etc/passwd", "a.jpg", "\ufeff", "\ud800"),
        *('""', '"""'),
        *('"images"', '"annotations"', '"id"', '"image_id"', '"file_name"', '"caption"', "file_name,text\n"),
        *("PAR1", "ustar"),
    )
)  # fmt: skip
TOKENS = (*_TEXT_TOKENS, b"\xff\xfe", b"\xfe\xff", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80")


def _name(rng: random.Random) -> str:
    return rng.choice(GOOD_NAMES if rng.random() < 0.97 else ODD_NAMES)


def _caption(rng: random.Random) -> str:
    return rng.choice(GOOD_CAPTIONS if rng.random() < 0.95 else ODD_CAPTIONS)


def _json(value: str, rng: random.Random) -> str:
    """A text as JSON, or now and then what is no text."""
    if rng.random() < 0.02:
        return rng.choice(ODD_JSON)
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def _json_caption(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return "[" + ", ".join(_json(_caption(rng), rng) for _ in range(rng.randrange(4))) + "]"
    return _json(_caption(rng), rng)


def _object(pairs: Sequence[tuple[str, str]], rng: random.Random) -> str:
    """Keys may come twice, be left out, or be out of order."""
    written = [f"{_json(key, rng)}: {value}" for key, value in pairs if rng.random() > 0.01]
    if written and rng.random() < 0.05:
        written.append(rng.choice(written))
    return (
        "{" + ", ".join(written) + rng.choice(("}", "}", "}", "}", ",}", ""))
        if rng.random() < 0.1
        else "{" + ", ".join(written) + "}"
    )


def _encoded(text: str, rng: random.Random) -> bytes:
    """Mostly UTF-8; then some of it damaged."""
    encoding = (
        "utf-8"
        if rng.random() < 0.75
        else rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"))
    )
    try:
        data = text.encode(encoding, "surrogatepass")
    except (UnicodeEncodeError, LookupError):
        data = text.encode("ascii", "replace")
    if rng.random() < 0.3:
        data = mutate_bytes(data, rng, tokens=TOKENS)
    return data


def _count(rng: random.Random) -> int:
    return rng.choice((0, 1, 1, 2, 3, 5, 20))


def _text(rng: random.Random) -> Case:
    files = {}
    for name in ("a", "sub/b", "2_x/a", rng.choice(("c", "é", "e\u0301", "a\n", "x" * 200))):
        if rng.random() < 0.6:
            files[name + rng.choice((".txt", ".TXT", ".caption", ".txt"))] = _encoded(
                "\n".join(_caption(rng) for _ in range(_count(rng))), rng
            )
    if rng.random() < 0.2:
        files["c.png"] = b""
    return Case(files, options={"captions_per_file": rng.choice(("one", "lines"))})


def _json_manifest(rng: random.Random) -> Case:
    text = _object([(_name(rng), _json_caption(rng)) for _ in range(_count(rng))], rng)
    if rng.random() < 0.05:
        text = rng.choice(ODD_JSON)
    return Case({"manifest.json": _encoded(text, rng)}, "manifest.json")


def _rows(rng: random.Random) -> tuple[tuple[str, str], dict[str, str]]:
    """The names of the two columns, and options that name them or wrong ones."""
    columns = rng.choice(NAME_KEYS), rng.choice(CAPTION_KEYS)
    options = {}
    if rng.random() < 0.2:
        options["image_column"] = rng.choice((columns[0], columns[1], "nothing", "", "\x1b[31m", "\ud800"))
    if rng.random() < 0.2:
        options["caption_column"] = rng.choice((columns[0], columns[1], "nothing", "", "id\n"))
    return columns, options


def _jsonl_text(rng: random.Random, columns: tuple[str, str]) -> str:
    lines = []
    for _ in range(_count(rng)):
        pairs = [
            (columns[0], _json(_name(rng), rng)),
            (columns[1], _json_caption(rng)),
            ("id", rng.choice(("1", *ODD_JSON[:8]))),
        ]
        rng.shuffle(pairs)
        lines.append(
            rng.choice(ODD_JSON) if rng.random() < 0.03 else _object(pairs[: 2 if rng.random() < 0.05 else 3], rng)
        )
    return rng.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(lines)


def _csv_text(rng: random.Random, columns: tuple[str, str]) -> str:
    separator = rng.choice(",,,\t;|")
    if rng.random() < 0.7:
        table = io.StringIO()
        writer = csv.writer(table, delimiter=separator, lineterminator=rng.choice(("\n", "\r\n", "\r")))
        writer.writerow([*columns, "id"])
        writer.writerows([_name(rng), _caption(rng), "1"] for _ in range(_count(rng)))
        return table.getvalue()
    rows = [separator.join((*columns, rng.choice(("id", "", columns[0]))))]
    rows += [
        separator.join((_name(rng), rng.choice(('"', "", '"')) + _caption(rng) + rng.choice(('"', "", '""')), "1"))
        for _ in range(_count(rng))
    ]
    return "\n".join(rows)


def _jsonl(rng: random.Random) -> Case:
    columns, options = _rows(rng)
    name = rng.choice(("x.jsonl", "x.ndjson"))
    return Case({name: _encoded(_jsonl_text(rng, columns), rng)}, name, options)


def _csv(rng: random.Random) -> Case:
    columns, options = _rows(rng)
    name = rng.choice(("x.csv", "x.tsv", "captions.txt"))
    return Case({name: _encoded(_csv_text(rng, columns), rng)}, name, options)


def _imagefolder(rng: random.Random) -> Case:
    columns, options = _rows(rng)
    folder = rng.choice(("", "", "sub/"))
    ending = rng.choice((".jsonl", ".csv", ".parquet"))
    if ending == ".jsonl":
        content = _encoded(_jsonl_text(rng, columns), rng)
    elif ending == ".csv":
        content = _encoded(_csv_text(rng, columns), rng)
    else:
        content = _parquet_bytes(rng, {columns[0]: _name, columns[1]: _caption})
    return Case({f"{folder}metadata{ending}": content}, f"{folder}metadata{ending}", options)


def _coco(rng: random.Random) -> Case:
    ids = [
        rng.choice(ODD_JSON) if rng.random() < 0.02 else rng.choice((str(number), f'"{number}"')) for number in range(4)
    ]
    images = [
        _object([("id", rng.choice(ids)), ("file_name", _json(_name(rng), rng))], rng) for _ in range(_count(rng))
    ]
    said = [_object([("image_id", rng.choice(ids)), ("caption", _json_caption(rng))], rng) for _ in range(_count(rng))]
    text = _object(
        [
            ("images", "[" + ", ".join(images) + "]"),
            ("annotations", "[" + ", ".join(said) + "]"),
            ("info", rng.choice(ODD_JSON[:8])),
        ],
        rng,
    )
    return Case({"captions.json": _encoded(text, rng)}, "captions.json")


def _flickr8k(rng: random.Random) -> Case:
    lines = []
    for _ in range(_count(rng)):
        mark = (
            rng.choice(("#0\t", "#1\t", "#2\t", "#3\t", "#\t", "#9" + "9" * 5000 + "\t", "\t", "##0\t"))
            if rng.random() < 0.2
            else f"#{rng.randrange(50)}\t"
        )
        lines.append(_name(rng) + mark + _caption(rng))
    files = {"x.token.txt": _encoded(rng.choice(("\n", "\r\n", "\r")).join(lines), rng)}
    for part in ("train", "dev", "test"):
        if rng.random() < 0.2:
            files[f"x.{part}Images.txt"] = _encoded("\n".join(_name(rng) for _ in range(_count(rng))), rng)
    return Case(files, "x.token.txt")


# --- packed formats ---------------------------------------------------------------------------------------------------


def _picture(rng: random.Random) -> bytes:
    seeds = picture_seeds()
    picture = seeds[rng.randrange(min(len(seeds), 40))]
    return mutate_bytes(picture, rng) if rng.random() < 0.2 else picture


def _webdataset(rng: random.Random) -> Case:
    """A shard with pairs, odd members among them; then its bytes damaged, and the sum of the head put right again."""
    content = io.BytesIO()
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=content, mode=rng.choice(("w", "w", "w", "w:gz", "w:bz2", "w:xz")), format=form) as shard:
        for number in range(_count(rng)):
            stem = rng.choice((f"{number:05}", f"{number:05}", f"{number:05}", "00000", _name(rng).replace("\0", "")))
            for ending, data in (
                (".jpg", _picture(rng)),
                (".txt", _encoded(_caption(rng), rng)),
                (".json", b'{"caption": "a"}'),
            ):
                if rng.random() < 0.15:
                    continue
                member = tarfile.TarInfo(stem + rng.choice((ending, ending, ending, ending.upper(), ".odd")))
                if rng.random() < 0.08:
                    member.type = rng.choice(
                        (
                            tarfile.SYMTYPE,
                            tarfile.LNKTYPE,
                            tarfile.DIRTYPE,
                            tarfile.FIFOTYPE,
                            tarfile.CHRTYPE,
                            b"V",
                            tarfile.GNUTYPE_SPARSE,
                        )
                    )
                    member.linkname = rng.choice(("../secret.jpg", "/etc/passwd", "a.jpg"))
                member.size = len(data)
                try:
                    shard.addfile(member, io.BytesIO(data))
                except (ValueError, UnicodeEncodeError, tarfile.TarError):
                    continue
    data = content.getvalue()
    if rng.random() < 0.3:
        data = mutate_bytes(data, rng, tokens=TOKENS)
    if rng.random() < 0.3 and len(data) >= 512:
        data = _with_tar_head(data, rng)
    name = rng.choice(("shard-000000.tar", "train-00000.tar"))
    return Case({name: data}, name if rng.random() < 0.3 else None)


def _with_tar_head(data: bytes, rng: random.Random) -> bytes:
    """A field of one head overwritten: name, size, kind of member, sum."""
    at = 512 * rng.randrange(len(data) // 512)
    head = bytearray(data[at : at + 512])
    start, width = rng.choice(((0, 100), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
    odd = (
        b"\x80" + bytes(10) + b"\xff",
        b"77777777777\0",
        b"-1",
        b"\xff" * 12,
        b"../../x.jpg\0",
        b"\0" * 12,
        b"x",
        b"L",
        b"g",
        b"S",
    )
    token = rng.choice(odd)[:width]
    head[start : start + len(token)] = token
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return data[:at] + bytes(head) + data[at + 512 :]


def _parquet(rng: random.Random) -> Case:
    """A table with the bytes of pictures, as data sets are handed round."""
    columns: dict[str, Callable[[random.Random], object]] = {
        "image": lambda rng: rng.choice(({"bytes": _picture(rng), "path": _name(rng)}, {"bytes": None}, None)),
        rng.choice(CAPTION_KEYS): rng.choice((_caption, lambda rng: [_caption(rng)])),
    }  # fmt: skip
    if rng.random() < 0.3:
        columns["image"] = _picture
    name = rng.choice(("x.parquet", "train-00000-of-00001.parquet"))
    return Case({name: _parquet_bytes(rng, columns)}, name if rng.random() < 0.3 else None)


def _parquet_bytes(rng: random.Random, columns: dict[str, Callable[[random.Random], object]]) -> bytes:
    """Damaged in a third of cases, most of all in the footer; rubbish where pyarrow is not there."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return b"PAR1" + rng.randbytes(rng.randrange(200)) + b"PAR1"
    rows = _count(rng)
    try:
        table = pyarrow.table({name: [make(rng) for _ in range(rows)] for name, make in columns.items()})
        content = io.BytesIO()
        parquet.write_table(
            table,
            content,
            compression=rng.choice(("none", "snappy", "gzip", "zstd")),
            use_dictionary=rng.random() < 0.5,
        )
        data = content.getvalue()
    except (pyarrow.ArrowException, UnicodeEncodeError, TypeError):
        return b"PAR1PAR1"
    if rng.random() < 0.4:
        return data
    if rng.random() < 0.5:
        return mutate_bytes(data, rng, tokens=TOKENS)
    footer = struct.unpack("<I", data[-8:-4])[0]
    start = len(data) - 8 - footer
    if rng.random() < 0.2:
        return data[:-8] + struct.pack("<I", odd_number(rng)) + b"PAR1"
    changed = mutate_bytes(data[start:-8], rng)
    return data[:start] + changed + struct.pack("<I", len(changed)) + b"PAR1"


MANIFEST_MAKERS: dict[str, Callable[[random.Random], Case]] = {
    "text": _text,
    "kohya": _text,
    "json": _json_manifest,
    "jsonl": _jsonl,
    "csv": _csv,
    "imagefolder": _imagefolder,
    "coco": _coco,
    "flickr8k": _flickr8k,
    "webdataset": _webdataset,
    "parquet": _parquet,
}
"""Format -> its maker. A format of the registry that is not here is not fuzzed, and the run says so."""

NAMES_TO_LOOK_AT = (
    *("manifest.json", "captions.json", "x.json", "x.jsonl", "metadata.jsonl", "x.csv", "x.tsv", "metadata.csv"),
    *("captions.txt",),
    *("x.token.txt", "a.txt", "sub/metadata.csv", "annotations/x.json", "metadata.parquet", "x.tar", "x.odd"),
)  # fmt: skip
"""Under one of these the file of another format is put, for the reader that looks by itself."""
