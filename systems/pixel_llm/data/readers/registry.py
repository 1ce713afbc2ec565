"""All readers, by name, in the order that decides between readings of as many pairs."""

from systems.pixel_llm.data.readers import csv_table, json_manifest, jsonl, kohya, text
from systems.pixel_llm.data.readers.reader import Reader

__all__ = ["READERS"]

READERS: dict[str, Reader] = {
    reader.name: reader for reader in (text.READER, kohya.READER, json_manifest.READER, jsonl.READER, csv_table.READER)
}
