"""`pixel-llm split DATA --out FOLDER`: train.json, val.json and test.json, pictures that look the same on one side.

The files are manifests, each picture's name relative to DATA, of one in a shard `train-000.tar/cat.jpg`: `train` and
`inspect` take them as they are.
"""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from systems.pixel_llm.cli.options import SplitOptions
from systems.pixel_llm.cli.reading import read_data_folder
from systems.pixel_llm.cli.scan_progress import scan_shown
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.same_pictures import groups_of_coco_ids, groups_of_like_pictures
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.data.split import split_groups
from systems.pixel_llm.errors import DatasetError, PixelLLMError

__all__ = ["run"]

logger = logging.getLogger(__name__)


def run(options: SplitOptions) -> int:
    """Run the command."""
    samples = read_data_folder(options.data, options.reading.manifest, options.reading).samples
    paths = list(dict.fromkeys(sample.image_path for sample in samples))
    with ScanCache(options.data) as cache:
        like = groups_of_like_pictures(scan_shown(cache, paths, num_workers=options.num_workers))
    named_the_same = groups_of_coco_ids(paths)
    sides = split_groups(
        samples, dataset_dir=options.data, groups=[*like, *named_the_same], seed=options.seed,
        fractions={"val": options.val, "test": options.test},
    )  # fmt: skip
    written = {side: options.out / f"{side}.json" for side, chosen in sides.items() if chosen}
    _check_unused(options.out)
    manifests = {path: _manifest(sides[side], options.data) for side, path in written.items()}
    for path, text in manifests.items():
        _write(path, text)
    for side, path in written.items():
        print(f"{side}: {len(sides[side]):,} pictures, {path}")
    logger.info(
        "%d pictures in %d groups look the same, %d in %d groups have one COCO image id; each group is on one side.",
        sum(map(len, like)), len(like), sum(map(len, named_the_same)), len(named_the_same),
    )  # fmt: skip
    val = f" --val-manifest {quote(str(written['val']))}" if "val" in written else ""
    logger.info(
        "To train: pixel-llm train %s --manifest %s%s", quote(str(options.data)), quote(str(written["train"])), val
    )
    return 0


def _check_unused(out: Path) -> None:
    taken = [path for side in ("train", "val", "test") if (path := out / f"{side}.json").exists()]
    if taken:
        raise PixelLLMError(f"{taken[0]} is there already. Name another folder with --out, or take it away.")


def _manifest(samples: Sequence[Sample], dataset_dir: Path) -> str:
    """JSON of name -> caption, or captions where there are several."""
    content: dict[str, list[str]] = {}
    for sample in samples:
        name = Path(os.path.relpath(sample.image_path, dataset_dir)).as_posix()
        if name.startswith("../") or not name.isprintable():
            raise DatasetError(
                f"{shown(sample.image_path)} cannot be named in a manifest: expected a picture in {dataset_dir} whose "
                "name is text. Move or rename it."
            )
        content.setdefault(name, []).extend(sample.captions)
    spelled = {name: captions[0] if len(captions) == 1 else captions for name, captions in content.items()}
    return json.dumps(spelled, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PixelLLMError(f"{path} cannot be written: {error.strerror}. Name another folder with --out.") from error
