"""Look at every picture file once: what it is, what it looks like, whether training could read it.

`scan_pictures` shares the files out over threads (Pillow decodes outside Python's lock: measured, they are as fast as
processes and start at once), decodes each file a single time, JPEGs at the smallest scale that the fingerprint allows,
and never fails for a picture: one that `open_image` refuses comes back as a `BadPicture` with the reason. What is
merely unusual is named by `oddities`, and `sizes_of` sums up how large the pictures are.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from systems.pixel_llm.data.distributions import Bar, Spread, histogram, spread_of
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.images import PictureFacts, examine_image
from systems.pixel_llm.data.near_duplicates import Fingerprint, fingerprint
from systems.pixel_llm.data.picture_path import PackedPicture, PicturePath
from systems.pixel_llm.data.threads import default_threads
from systems.pixel_llm.errors import DatasetError

__all__ = [
    "BadPicture",
    "OddPicture",
    "PictureSizes",
    "ScannedPicture",
    "oddities",
    "scan_pictures",
    "sizes_of",
]

_SCAN_SIZE = (32, 32)
"""JPEGs are decoded to no less, often at an eighth of their size: some four times what the fingerprint looks at."""

_FILES_AT_ONCE = 16
"""Handed to a thread together: a thread's change of hands costs as much as a small picture."""

MAX_ASPECT_RATIO = 3.0
TINY_SIDE = 32
HUGE_PIXELS = 25_000_000

_MOST_COMMON = 8
_DRAWN_RATIO = 5.0

_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
}


@dataclass(frozen=True, slots=True)
class ScannedPicture:
    """A picture that can be read."""

    path: PicturePath
    facts: PictureFacts
    fingerprint: Fingerprint


@dataclass(frozen=True)
class BadPicture:
    """A picture that training cannot read."""

    path: PicturePath
    reason: str
    """Why, and what to do, as a sentence about the file."""
    is_lasting: bool = True
    """Whether that is so until the file changes, and not because of permissions, memory or a disk's mood."""


@dataclass(frozen=True)
class OddPicture:
    """A picture that can be read but may not be what its owner believes."""

    path: PicturePath
    what: tuple[str, ...]
    """Each a few words."""


@dataclass(frozen=True, kw_only=True)
class PictureSizes:
    """How large pictures are, in pixels."""

    width: Spread
    height: Spread
    aspect_ratio: Spread
    """Width divided by height."""
    shorter_side_bars: tuple[Bar, ...]
    aspect_ratio_bars: tuple[Bar, ...]
    most_common: tuple[tuple[str, int], ...]
    """Sizes as "640 x 480" (width x height) with the number of pictures."""
    num_different: int
    """Of sizes."""
    num_smaller: int
    """Pictures with a side shorter than that of the model's."""


def scan_pictures(
    paths: Sequence[PicturePath], *, num_workers: int | None = None, on_progress: Callable[[int], None] | None = None
) -> list[ScannedPicture | BadPicture]:
    """What is known of each picture, in the order of `paths`.

    `num_workers` threads look at them, by default one a processor core; `on_progress` is called with how many more have
    been looked at.
    """
    found: list[ScannedPicture | BadPicture | None] = [None] * len(paths)
    workers = default_threads() if num_workers is None else num_workers
    starts = range(0, len(paths), _FILES_AT_ONCE)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        jobs = {pool.submit(_scan_some, paths[start : start + _FILES_AT_ONCE]): start for start in starts}
        try:
            for job in as_completed(jobs):
                scanned = job.result()
                found[jobs[job] : jobs[job] + len(scanned)] = scanned
                if on_progress is not None:
                    on_progress(len(scanned))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C should not wait for a hundred thousand pictures
            raise
    return [each for each in found if each is not None]


def _scan_some(paths: Sequence[PicturePath]) -> list[ScannedPicture | BadPicture]:
    return [_scan(path) for path in paths]


def _scan(path: PicturePath) -> ScannedPicture | BadPicture:
    try:
        picture, facts = examine_image(path, at_least=_SCAN_SIZE)
    except DatasetError as error:
        cause = error.__cause__
        # What the system refuses has a number; what a decoder makes of a file has none.
        is_passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return BadPicture(path, str(error).removeprefix(shown(path)).strip(), is_lasting=not is_passing)
    return ScannedPicture(path, facts, fingerprint(picture))


def oddities(scanned: ScannedPicture) -> tuple[str, ...]:
    """What is unusual about a picture, each in a few words; nothing for most."""
    facts, found = scanned.facts, []
    ratio = max(facts.width, facts.height) / min(facts.width, facts.height)
    if ratio > MAX_ASPECT_RATIO:
        found.append(f"{ratio:.1f} times as {'wide as high' if facts.width > facts.height else 'high as wide'}")
    if min(facts.width, facts.height) < TINY_SIDE:
        found.append(f"tiny ({facts.width} x {facts.height})")
    if facts.width * facts.height > HUGE_PIXELS:
        found.append(f"huge ({facts.width * facts.height / 1e6:.0f} megapixels)")
    if scanned.fingerprint.is_one_colour:
        found.append("one colour all over")
    if facts.is_animated:
        found.append("several pictures in one file; the first is used")
    if facts.mode == "CMYK":
        found.append("CMYK, for print; its colours are approximated")
    if facts.is_16_bit:
        found.append("16 bits a channel; reduced to 8")
    if facts.is_turned:
        found.append("turned by its EXIF note")
    is_named = scanned.path.suffix != "" or not isinstance(scanned.path, PackedPicture)  # a row has no extension
    if is_named and facts.kind in _EXTENSIONS and scanned.path.suffix.lower() not in _EXTENSIONS[facts.kind]:
        found.append(f"named {shown(scanned.path.suffix) or 'without an extension'}, but its content is {facts.kind}")
    return tuple(found)


def sizes_of(pictures: Sequence[ScannedPicture], *, image_size: int) -> PictureSizes | None:
    """How large the pictures are, against a model's `image_size` pixels a side; None where there are none."""
    if not pictures:
        return None
    facts = [picture.facts for picture in pictures]
    times = Counter(f"{each.width} x {each.height}" for each in facts)
    ratios = [each.width / each.height for each in facts]
    return PictureSizes(
        width=spread_of([each.width for each in facts]),
        height=spread_of([each.height for each in facts]),
        aspect_ratio=spread_of(ratios),
        shorter_side_bars=histogram([min(each.width, each.height) for each in facts], least_width=1),
        # A strip of a thousand to one would leave the others in a single bar.
        aspect_ratio_bars=histogram([min(ratio, _DRAWN_RATIO) for ratio in ratios], least_width=0.05),
        most_common=tuple(times.most_common(_MOST_COMMON)),
        num_different=len(times),
        num_smaller=sum(min(each.width, each.height) < image_size for each in facts),
    )
