"""Hold back some pictures for validation, by a hash of their names.

Each picture's side follows from its name, the seed and the fraction alone, so pictures that are added later move
none of the old ones, and two machines agree. The one exception: a side that would be empty gets the nearest picture.

`split_samples` is what training does by itself. `split_groups` makes more sides than two and keeps pictures together
that somebody has found to look the same.
"""

import hashlib
import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import Sample
from systems.pixel_llm.errors import ConfigError

__all__ = ["split_groups", "split_samples"]


def split_samples(
    samples: Sequence[Sample], *, dataset_dir: str | os.PathLike[str], fraction: float, seed: int = 0
) -> tuple[list[Sample], list[Sample]]:
    """(train, validation), each in the order of `samples`; about `fraction` of the pictures are for validation.

    The name that counts is the picture's path relative to `dataset_dir`, so a folder can be moved as a whole. All
    samples of one picture are on one side. With two pictures or more neither side is empty; a single picture is for
    training.

    Raises:
        ConfigError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction must be above 0 and below 1, not {fraction!r}: the share held for validation.")
    names = [_name(sample.image_path, Path(dataset_dir)) for sample in samples]
    place_by_name = {name: _place(name, seed) for name in names}
    held_back = {name for name, place in place_by_name.items() if place < fraction}
    if len(place_by_name) < 2:
        held_back = set()
    elif not held_back:
        held_back = {min(place_by_name, key=place_by_name.__getitem__)}
    elif len(held_back) == len(place_by_name):
        held_back.remove(max(place_by_name, key=place_by_name.__getitem__))
    train = [sample for sample, name in zip(samples, names, strict=True) if name not in held_back]
    validation = [sample for sample, name in zip(samples, names, strict=True) if name in held_back]
    return train, validation


def split_groups(
    samples: Sequence[Sample],
    *,
    dataset_dir: str | os.PathLike[str],
    groups: Sequence[Collection[PicturePath]],
    fractions: Mapping[str, float],
    seed: int = 0,
) -> dict[str, list[Sample]]:
    """Side -> its samples, in the order of `samples`: those of `fractions` and, of all that is left, "train".

    A picture's side follows from its name as in `split_samples`; the pictures of a group all go where the first of
    their names goes. A side may get none where there are few pictures, "train" never.

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
    name_of = {sample.image_path: _name(sample.image_path, Path(dataset_dir)) for sample in samples}
    leader_of = dict(name_of)
    for group in groups:
        known = [path for path in group if path in name_of]
        leader_of |= dict.fromkeys(known, min((name_of[path] for path in known), default=""))

    def side_of(leader: str) -> str:
        place, end = _place(leader, seed), 0.0
        for side, fraction in fractions.items():
            end += fraction
            if place < end:
                return side
        return "train"

    side_by_leader = {leader: side_of(leader) for leader in leader_of.values()}
    if side_by_leader and "train" not in side_by_leader.values():
        side_by_leader[max(side_by_leader, key=lambda leader: _place(leader, seed))] = "train"
    sides: dict[str, list[Sample]] = {side: [] for side in ("train", *fractions)}
    for sample in samples:
        sides[side_by_leader[leader_of[sample.image_path]]].append(sample)
    return sides


def _name(path: PicturePath, dataset_dir: Path) -> str:
    """The same text for the same picture on every system: "/" between folders, accents composed (NFC)."""
    return unicodedata.normalize("NFC", Path(os.path.relpath(path, dataset_dir)).as_posix())


def _place(name: str, seed: int) -> float:
    """A number in [0, 1), spread evenly over names."""
    digest = hashlib.blake2b(f"split:{seed}:{name}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
