"""Every way that `loading` times of getting from JPEG files to batches: ours, and each rival in a few settings.

A `Side` gives whole passes over the pictures, again and again: worker processes live on from pass to pass, so that
starting them costs no timed pass anything. A pass gives batches of float32, normalised already, or of uint8, which the
benchmark then normalises on the device; the latter is faster for rivals too, where they allow it. All sides stretch to
224 x 224 pixels and read the same JPEG bytes: webdataset from tar files, litdata from its own chunks, the others from
the files themselves. A rival that is not installed has no sides; `missing_rivals` names it.
"""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import io as vision_io
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.photographs import Photographs
from systems.pixel_llm.data import ImageCaptionDataset
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.preprocessing import Preprocessing

__all__ = ["IMAGE_SIZE", "PIL_LIBRARY", "Side", "all_sides", "missing_rivals", "our_sides", "pil_sides"]

IMAGE_SIZE = 224
PIL_LIBRARY = "torchvision PIL"
RIVALS = ("webdataset", "litdata", "datasets")

_SIZE = (IMAGE_SIZE, IMAGE_SIZE)
_RECORD = Preprocessing(image_size=_SIZE)


@dataclass(frozen=True)
class Side:
    """One setting of one library."""

    library: str
    setting: str
    loader: Iterable[Any]
    """Iterated once for each pass."""
    images_of: Callable[[Any], Tensor] = lambda batch: batch
    """The pictures of what the loader gives."""
    keeps_order: bool = True
    """Whether the pictures come by name; workers that read shards of their own mix them."""

    @property
    def name(self) -> str:
        """Library and setting."""
        return f"{self.library}, {self.setting}"

    @property
    def is_tuned(self) -> bool:
        """Whether it is put together here, other than the library's guide shows: bytes through the workers."""
        return "uint8" in self.setting and self.library != "litdata"  # which gives bytes by itself

    def batches(self) -> Iterator[Tensor]:
        """A pass: batches [B, 3, 224, 224], uint8 or normalised float32."""
        return map(self.images_of, self.loader)


def missing_rivals() -> list[str]:
    """Those that are not installed."""
    return [name for name in RIVALS if find_spec(name) is None]


def all_sides(photographs: Photographs, work: Path, *, batch_size: int, num_workers: int) -> list[Side]:
    """Ours first. Shards and chunks are written below `work`; rivals are tried with 0 and `num_workers` workers."""
    sides = [
        *our_sides(photographs, batch_size=batch_size),
        *pil_sides(photographs, batch_size=batch_size, num_workers=num_workers),
    ]
    sides += _v2_sides(photographs, batch_size=batch_size, num_workers=num_workers)
    makers = {"webdataset": _webdataset_sides, "litdata": _litdata_sides, "datasets": _datasets_sides}
    missing = missing_rivals()
    for rival in RIVALS:
        if rival not in missing:
            sides += makers[rival](photographs, work / rival, batch_size=batch_size, num_workers=num_workers)
    return sides


def our_sides(photographs: Photographs, *, batch_size: int) -> list[Side]:
    """`make_loader` in a first epoch: as it comes on a processor, and reading ahead, as it does beside a GPU."""
    return [
        Side("pixel_llm", "as it comes", _FirstEpochs(photographs.folder, batch_size, batches_ahead=0), _images),
        Side("pixel_llm", "reading ahead", _FirstEpochs(photographs.folder, batch_size, batches_ahead=2), _images),
    ]


class _FirstEpochs:
    """Each iteration is the first epoch of a new dataset, which keeps decoded pictures for a second that never comes.

    The number of threads is measured once: that is the start-up of this side.
    """

    def __init__(self, folder: Path, batch_size: int, *, batches_ahead: int) -> None:
        self.folder, self.batch_size, self.batches_ahead = folder, batch_size, batches_ahead
        self.samples = ImageCaptionDataset(folder, "auto", image_size=_SIZE).samples
        self.num_workers: int | None = None

    def __iter__(self) -> Iterator[Any]:
        dataset = ImageCaptionDataset(self.folder, samples=self.samples, image_size=_SIZE)
        loader = PictureLoader(
            dataset, batch_size=self.batch_size, shuffle=False, num_workers=self.num_workers,
            batches_ahead=self.batches_ahead,
        )  # fmt: skip
        yield from loader
        self.num_workers = loader.num_workers


# --- torchvision ------------------------------------------------------------------------------------------------------


class _Files(Dataset[Tensor]):
    """The pictures of some files through a function of the path."""

    def __init__(self, files: Sequence[Path], load: Callable[[str], Tensor]) -> None:
        self.files, self.load = [str(file) for file in files], load

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.load(self.files[index])


def pil_sides(photographs: Photographs, *, batch_size: int, num_workers: int) -> list[Side]:
    """The loop of most tutorials: PIL, Resize, ToTensor, Normalize."""
    files = _Files(photographs.files, _load_pil)
    return [Side(PIL_LIBRARY, _workers(count), _loader(files, batch_size, count)) for count in (0, num_workers)]


def _v2_sides(photographs: Photographs, *, batch_size: int, num_workers: int) -> list[Side]:
    """`decode_jpeg` and v2 transforms; normalised picture by picture, or batch by batch after the workers."""
    sides = []
    for kind, load in (("float", _load_v2_float), ("uint8", _load_v2_uint8)):
        files = _Files(photographs.files, load)
        sides += [
            Side("torchvision v2", f"{kind}, {_workers(n)}", _loader(files, batch_size, n)) for n in (0, num_workers)
        ]
    return sides


_pil_transform = transforms.Compose(
    [transforms.Resize(_SIZE), transforms.ToTensor(), transforms.Normalize(_RECORD.mean, _RECORD.std)]
)
_v2_resize = v2.Resize(_SIZE, antialias=True)
_v2_normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(_RECORD.mean, _RECORD.std)])


def _load_pil(path: str) -> Tensor:
    with Image.open(path) as image:
        return _pil_transform(image.convert("RGB"))


def _load_v2_uint8(path: str) -> Tensor:
    return _v2_resize(vision_io.decode_jpeg(vision_io.read_file(path), mode=vision_io.ImageReadMode.RGB))


def _load_v2_float(path: str) -> Tensor:
    return _v2_normalise(_load_v2_uint8(path))


# --- webdataset -------------------------------------------------------------------------------------------------------


def _webdataset_sides(photographs: Photographs, work: Path, *, batch_size: int, num_workers: int) -> list[Side]:
    """Tar shards, a few for each worker; decoded by its "pilrgb", or by `decode_jpeg` with uint8 after the workers."""
    import webdataset as wds

    work.mkdir(parents=True)
    count = min(4 * num_workers, len(photographs.files))
    shards = [str(work / f"{number:04}.tar") for number in range(count)]
    for number, shard in enumerate(shards):
        # Dereferenced: the same picture under two names is two members, not a member and a link.
        with tarfile.open(shard, "w", dereference=True) as tar:
            # In order, so that without workers the pictures come as in the folder.
            for file in photographs.files[_part(number, count, len(photographs.files))]:
                tar.add(file, file.name)
    sides = []
    for kind in ("PIL", "decode_jpeg uint8"):
        for workers in (0, num_workers):
            dataset = wds.WebDataset(shards, shardshuffle=False)
            if kind == "PIL":
                dataset = dataset.decode("pilrgb").to_tuple("jpg").map_tuple(_pil_transform)
            else:
                dataset = dataset.to_tuple("jpg").map_tuple(_decode_bytes)
            loader = wds.WebLoader(
                dataset.batched(batch_size), batch_size=None, num_workers=workers, persistent_workers=workers > 0,
                pin_memory=torch.cuda.is_available(),
            )  # fmt: skip
            setting = f"{kind}, {_workers(workers)}"
            sides.append(Side("webdataset", setting, loader, _first, keeps_order=workers == 0))
    return sides


def _part(number: int, count: int, total: int) -> slice:
    return slice(number * total // count, (number + 1) * total // count)


def _decode_bytes(data: bytes) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return _v2_resize(vision_io.decode_jpeg(encoded, mode=vision_io.ImageReadMode.RGB))


# --- litdata ----------------------------------------------------------------------------------------------------------


def _litdata_sides(photographs: Photographs, work: Path, *, batch_size: int, num_workers: int) -> list[Side]:
    """Its optimised chunks of the same JPEG bytes; its reader decodes them to uint8 tensors (torchvision inside)."""
    import litdata

    litdata.optimize(
        fn=_litdata_item, inputs=[str(file) for file in photographs.files], output_dir=str(work), chunk_bytes="64MB",
        num_workers=1, verbose=False, start_method="fork",  # which it sets for the whole process
    )  # fmt: skip
    sides = []
    for workers in (0, num_workers):
        loader = litdata.StreamingDataLoader(
            litdata.StreamingDataset(str(work), transform=_litdata_resized), batch_size=batch_size,
            num_workers=workers, persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        sides.append(Side("litdata", f"uint8, {_workers(workers)}", loader, keeps_order=workers == 0))
    return sides


def _litdata_item(path: str) -> dict[str, Any]:
    import litdata

    return {"image": litdata.Jpeg(path=path)}


def _litdata_resized(item: dict[str, Tensor]) -> Tensor:
    return _v2_resize(item["image"])


# --- Hugging Face datasets --------------------------------------------------------------------------------------------


def _datasets_sides(photographs: Photographs, work: Path, *, batch_size: int, num_workers: int) -> list[Side]:
    """`imagefolder` with `with_transform`; as documented, or its bytes undecoded through `decode_jpeg`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    folder = datasets.load_dataset(
        "imagefolder", data_dir=str(photographs.folder), split="train", cache_dir=str(work)
    ).select_columns(["image"])
    undecoded = folder.cast_column("image", datasets.Image(decode=False))
    kinds = {
        "PIL": folder.with_transform(_transform_pil),
        "decode_jpeg uint8": undecoded.with_transform(_transform_bytes),
    }
    return [
        Side("datasets", f"{kind}, {_workers(count)}", _loader(dataset, batch_size, count), _image)
        for kind, dataset in kinds.items()
        for count in (0, num_workers)
    ]


def _transform_pil(rows: dict[str, list[Any]]) -> dict[str, list[Tensor]]:
    return {"image": [_pil_transform(image.convert("RGB")) for image in rows["image"]]}


def _transform_bytes(rows: dict[str, list[Any]]) -> dict[str, list[Tensor]]:
    return {"image": [_decode_bytes(row["bytes"] or Path(row["path"]).read_bytes()) for row in rows["image"]]}


# --- shared -----------------------------------------------------------------------------------------------------------


def _loader(dataset: Any, batch_size: int, num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset, batch_size=batch_size, num_workers=num_workers, persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip


def _images(batch: dict[str, Tensor]) -> Tensor:
    return batch["images"]


def _image(batch: dict[str, Tensor]) -> Tensor:
    return batch["image"]


def _first(batch: Sequence[Tensor]) -> Tensor:
    return batch[0]


def _workers(count: int) -> str:
    return f"{count} workers"
