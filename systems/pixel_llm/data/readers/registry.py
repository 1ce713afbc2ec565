"""All readers, by name, in the order that decides between readings of as many pairs."""

from systems.pixel_llm.data.readers import json_manifest, kohya, text
from systems.pixel_llm.data.readers.reader import Reader

__all__ = ["READERS"]

READERS: dict[str, Reader] = {reader.name: reader for reader in (text.READER, kohya.READER, json_manifest.READER)}
