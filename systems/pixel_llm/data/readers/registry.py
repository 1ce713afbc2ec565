"""All readers, by name, in the order that decides between readings of as many pairs."""

from systems.pixel_llm.data.readers import (
    coco,
    csv_table,
    flickr8k,
    imagefolder,
    json_manifest,
    jsonl,
    kohya,
    parquet_pictures,
    text,
    webdataset,
)
from systems.pixel_llm.data.readers.reader import Reader

__all__ = ["READERS"]

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        text.READER,
        kohya.READER,
        json_manifest.READER,
        jsonl.READER,
        csv_table.READER,
        imagefolder.READER,
        coco.READER,
        flickr8k.READER,
        webdataset.READER,
        parquet_pictures.READER,
    )
}
