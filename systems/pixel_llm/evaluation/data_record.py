"""`data.json` of a run folder: what the run trains and validates on, in names and numbers, for whoever asks later.

The folders of the data may be gone or on another machine by then. No torch is loaded by this module.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from systems.pixel_llm.errors import DatasetError

__all__ = ["DATA_FILE", "DataRecord", "read_data_record", "write_data_record"]

DATA_FILE = "data.json"
FORMAT = "pixel-llm data 1"


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """The data of a run."""

    folders: tuple[str, ...]
    """The names of the data folders, without where they lie."""
    num_train_pictures: int
    num_train_captions: int
    num_validation_pictures: int
    num_validation_captions: int
    is_held_back: bool
    """Whether the validation pictures are a part of the folders, held back, rather than named by the user."""
    is_divided_by_looks: bool
    """Whether pictures that look the same were kept on one side of that division."""


def write_data_record(record: DataRecord, run: Path) -> None:
    """Write `run/data.json`, in the place of an older one.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **asdict(record)}, indent=2, ensure_ascii=False) + "\n"
    beside = run / f".{DATA_FILE}.tmp"
    beside.write_bytes(text.encode(errors="backslashreplace"))  # a folder's name of bytes that are no text
    beside.replace(run / DATA_FILE)


def read_data_record(run: Path) -> DataRecord | None:
    """What `run/data.json` says; None where there is no such file.

    Raises:
        DatasetError: it is damaged.
    """
    path = run / DATA_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        record = DataRecord(**fields | {"folders": tuple(fields["folders"])})
        numbers = [value for name, value in fields.items() if name.startswith("num_")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a number of pictures or captions is no whole number")
        if not all(isinstance(name, str) for name in record.folders):
            raise ValueError("the name of a folder is no text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path} is not readable as a record of data ({error}). Remove it: all else of the run can be used."
        ) from error
    return record
