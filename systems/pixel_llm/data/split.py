"""Hold back some pictures for validation, by a hash of their names.

Each picture's side follows from its name, the seed and the fraction alone, so pictures that are added later move
none of the old ones, and two machines agree. Pictures that belong together, because somebody found that they look the
same, all go where the first of their names goes. Two exceptions keep a split useful: a side that would be empty gets
the nearest, and a group of more than twice the pictures that a side should have is for training.

`split_samples` makes the two sides that training needs, `split_rows` the same of very many, `split_groups` any number.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import ConfigError

__all__ = ["split_groups", "split_rows", "split_samples"]

_MOST_IN_A_GROUP = 2
"""Times the pictures that a side should have."""


def split_samples(
    samples: Sequence[Sample],
    *,
    dataset_dir: str | os.PathLike[str],
    fraction: float,
    seed: int = 0,
    groups: Iterable[Collection[PicturePath]] = (),
) -> tuple[list[Sample], list[Sample]]:
    """(train, validation), each in the order of `samples`; about `fraction` of the pictures are for validation.

    The name that counts is the picture's path relative to `dataset_dir`, so a folder can be moved as a whole. All
    samples of one picture are on one side, and so are the pictures of each of `groups`; groups that share a picture are
    one. With two pictures or more that are not all of one group neither side is empty; else all are for training.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
    """
    paths = [os.fspath(sample.image_path) for sample in samples]
    train, validation = split_rows(paths, dataset_dir=dataset_dir, fraction=fraction, seed=seed, groups=groups)
    return [samples[row] for row in train], [samples[row] for row in validation]


def split_rows(
    paths: Collection[str],
    *,
    dataset_dir: str | os.PathLike[str],
    fraction: float,
    seed: int = 0,
    groups: Iterable[Collection[PicturePath]] = (),
) -> tuple[list[int], list[int]]:
    """As `split_samples`, of the pictures' paths and by their numbers: a million samples stay in their table.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must be above 0 and below 1, not {fraction!r}: the share held for validation.")
    names = _names(paths, dataset_dir)
    leader_of = _leaders(paths, names, groups)
    units = _Units(names, leader_of, seed)
    held_back = units.below(fraction)
    if units.count < 2:
        held_back = set()
    elif not held_back:
        held_back = {units.nearest(fraction)}
    elif len(held_back) == units.count:
        held_back.remove(units.farthest())
    rows: tuple[list[int], list[int]] = [], []
    for row, name in enumerate(names):
        rows[leader_of.get(name, name) in held_back].append(row)
    return rows


def split_groups(
    samples: Sequence[Sample],
    *,
    dataset_dir: str | os.PathLike[str],
    groups: Iterable[Collection[PicturePath]],
    fractions: Mapping[str, float],
    seed: int = 0,
) -> dict[str, list[Sample]]:
    """Side -> its samples, in the order of `samples`: those of `fractions` and, of all that is left, "train".

    A picture's side follows from its name as in `split_samples`. A side may get none where there are few pictures,
    "train" never.

    Args:
        samples: what to split.
        dataset_dir: names are relative to it.
        groups: paths of pictures that belong together.
        fractions: side -> its share of the pictures, 0 for none.
        seed: another one makes another split.

    Raises:
        ConfigError: a fraction is not in 0 .. 1, or nothing would be left for training.
    """
    if not all(0 <= fraction < 1 for fraction in fractions.values()) or sum(fractions.values()) >= 1:
        spelled = ", ".join(f"{side}={fraction}" for side, fraction in fractions.items())
        raise ConfigError(f"{spelled}: each must be at least 0, and together less than 1, the rest being for training.")
    paths = [os.fspath(sample.image_path) for sample in samples]
    names = _names(paths, dataset_dir)
    leader_of = _leaders(paths, names, groups)
    units = _Units(names, leader_of, seed)
    side_by_leader: dict[str, str] = {}
    start = 0.0
    for side, fraction in fractions.items():
        side_by_leader |= dict.fromkeys(units.below(start + fraction, start=start), side)
        start += fraction
    if len(side_by_leader) == units.count > 0:
        del side_by_leader[units.farthest()]
    sides: dict[str, list[Sample]] = {side: [] for side in ("train", *fractions)}
    for sample, name in zip(samples, names, strict=True):
        sides[side_by_leader.get(leader_of.get(name, name), "train")].append(sample)
    return sides


class _Units:
    """What goes to a side as a whole: groups, by the first of their names, and single pictures."""

    def __init__(self, names: Iterable[str], leader_of: Mapping[str, str], seed: int) -> None:
        pictures = dict.fromkeys(names)
        self._num_pictures = len(pictures)
        self._sizes = Counter(leader_of[name] for name in pictures if name in leader_of)
        self._leaders = list(dict.fromkeys(leader_of.get(name, name) for name in pictures) if leader_of else pictures)
        self._places = _places(self._leaders, seed)

    @property
    def count(self) -> int:
        return len(self._leaders)

    def below(self, end: float, *, start: float = 0.0) -> set[str]:
        """Those in a part of the places, without groups that are too large for it."""
        most = self._most(end - start)
        found = (self._leaders[index] for index in np.flatnonzero((self._places >= start) & (self._places < end)))
        return {leader for leader in found if self._sizes.get(leader, 1) <= most}

    def nearest(self, fraction: float) -> str:
        """The first place of those that are not too large, else of the smallest."""
        most = self._most(fraction)
        sizes = [max(most, self._sizes.get(leader, 1)) for leader in self._leaders]
        return min(zip(sizes, self._places.tolist(), self._leaders, strict=True))[2]

    def farthest(self) -> str:
        """The last place."""
        return self._leaders[int(self._places.argmax())]

    def _most(self, fraction: float) -> float:
        return max(1.0, _MOST_IN_A_GROUP * fraction * self._num_pictures)


def _places(names: Sequence[str], seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """For each name a number in [0, 1), spread evenly over names."""
    start = f"split:{seed}:"
    digests = [hashlib.blake2b((start + name).encode(errors="surrogatepass"), digest_size=8).digest() for name in names]
    numbers = np.frombuffer(b"".join(digests), ">u8").astype(np.float64) / 2.0**64
    return np.minimum(numbers, np.nextafter(1.0, 0.0))  # the largest digests round up to 1


def _leaders(paths: Iterable[str], names: Sequence[str], groups: Iterable[Collection[PicturePath]]) -> dict[str, str]:
    """Name -> the first name of its group, for pictures in groups; groups that share a picture are one."""
    members = [[os.fspath(path) for path in group] for group in groups]
    if not members:
        return {}
    wanted = {path for group in members for path in group}
    name_of = {path: name for path, name in zip(paths, names, strict=True) if path in wanted}
    above: dict[str, str] = {}

    def first(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = above[above[name]]  # halves the way for whoever comes next
            name = above[name]
        return name

    for group in members:
        firsts = {first(name_of[path]) for path in group if path in name_of}
        above |= dict.fromkeys(firsts, min(firsts, default=""))
    return {name: first(name) for name in list(above)}


def _names(paths: Iterable[str], dataset_dir: str | os.PathLike[str]) -> list[str]:
    """For each picture the same text on every system: its path in the data, "/" between folders, accents composed."""
    folder = Path(dataset_dir)
    inside = os.path.join(folder, "") if folder != Path() else ""  # noqa: PTH118
    start = len(inside)
    names = []
    for path in paths:
        name = path[start:]
        # Most paths are their folder and a plain name; taking each apart costs ten times as much.
        if not (path.startswith(inside) and name.isascii() and name[:1] != "/" and ".." not in name) or "\\" in name:
            name = unicodedata.normalize("NFC", Path(os.path.relpath(path, folder)).as_posix())
        names.append(name)
    return names
