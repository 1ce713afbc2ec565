"""`caption_files`: any number of picture files -> captions, a batch at a time, in order, never all pictures at once.

Threads decode and scale the pictures; what waits for the model is its small size in bytes. On a processor they decode
one batch and rest while the model, which needs the same cores, works; beside a GPU they are some batches ahead. A
picture that cannot be read takes the place of its caption, with the reason.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from systems.pixel_llm.data.threads import default_threads
from systems.pixel_llm.errors import ConfigError, DatasetError
from systems.pixel_llm.inference.captioner import Captioner
from systems.pixel_llm.models.generation import GeneratedCaption

__all__ = ["CaptionedPicture", "UnreadPicture", "caption_files"]

_BATCHES_AHEAD = 4


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """A picture and what the model says of it."""

    path: Path
    captions: list[GeneratedCaption]
    """Best first; one, or as many as were asked for."""


@dataclass(frozen=True, slots=True)
class UnreadPicture:
    """A picture that cannot be read."""

    path: Path
    reason: str
    """A sentence that names it and says what to do."""


def caption_files(
    captioner: Captioner,
    paths: Iterable[Path],
    *,
    batch_size: int = 16,
    num_workers: int | None = None,
    **settings: Any,
) -> Iterator[list[CaptionedPicture | UnreadPicture]]:
    """Caption picture files, `batch_size` of them at a time, in the order of `paths`.

    Args:
        captioner: the model.
        paths: the pictures; taken from the iterable as they are needed.
        batch_size: how many are captioned at once.
        num_workers: threads that decode; left out, one a core.
        **settings: as for `Captioner.caption_scored`.

    Yields:
        The outcome of each batch. Whoever stops here loses none of the batches that were given.

    Raises:
        ConfigError: a setting is out of range.
    """
    for name, value in (("batch_size", batch_size), ("num_workers", num_workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")
    batches_ahead = _BATCHES_AHEAD if captioner.model.device.type == "cuda" else 0
    with ThreadPoolExecutor(num_workers or default_threads(), thread_name_prefix="pictures") as pool:
        waiting: deque[tuple[Path, Future[Tensor]]] = deque()
        rest = iter(paths)
        try:
            while True:
                room = batch_size * (1 + batches_ahead) - len(waiting)
                waiting.extend((path, pool.submit(captioner.prepare, path)) for path in islice(rest, room))
                if not waiting:
                    return
                batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
                yield _outcomes(captioner, [(path, _result(path, future)) for path, future in batch], settings)
        finally:
            for _, future in waiting:
                future.cancel()


def _result(path: Path, future: "Future[Tensor]") -> Tensor | UnreadPicture:
    try:
        return future.result()
    except DatasetError as error:
        return UnreadPicture(path, str(error))


def _outcomes(
    captioner: Captioner, read: list[tuple[Path, Tensor | UnreadPicture]], settings: dict[str, Any]
) -> list[CaptionedPicture | UnreadPicture]:
    pictures = [picture for _, picture in read if isinstance(picture, Tensor)]
    captions: Iterator[list[GeneratedCaption]] = iter(())
    if pictures:
        captions = iter(captioner.caption_scored(pictures, batch_size=len(pictures), **settings))
    return [
        picture if isinstance(picture, UnreadPicture) else CaptionedPicture(path, next(captions))
        for path, picture in read
    ]
