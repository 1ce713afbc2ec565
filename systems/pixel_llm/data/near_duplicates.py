"""Which pictures look the same: a 64-bit fingerprint of each, and the groups of fingerprints that are close.

`fingerprint` is a difference hash (which of two neighbouring spots of a 9 x 8 picture is brighter) with a 4 x 4 picture
in colour beside it: the hash finds, the colours confirm, since a red and a blue car of one drawing have the same hash
and different captions. `groups_of_near_duplicates` never compares all with all: of two hashes that differ in at most 4
of 64 bits, cut into six bands, at least two bands are equal, so only fingerprints that share two bands are compared.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["MAX_DISTANCE", "Fingerprint", "fingerprint", "groups_of_near_duplicates"]

MAX_DISTANCE = 4
"""Bits of 64 in which the hashes of one picture, scaled or saved anew, may differ."""

MAX_COLOUR_DIFFERENCE = 6.0
"""Levels of 255 that the 4 x 4 colours of two such pictures may differ in, on average."""

# Two bands more than MAX_DISTANCE can spoil. Together they are the 64 bits.
_BANDS = ((0, 11), (11, 22), (22, 33), (33, 44), (44, 54), (54, 64))
_COLOURS_SIDE = 4
_HASH_SIZE = (9, 8)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a picture looks like, in 56 bytes."""

    hash: int
    """64 bits."""
    colours: bytes
    """RGB of 4 x 4 spots, row by row."""

    @property
    def is_one_colour(self) -> bool:
        """Whether the picture is one even surface."""
        colours = np.frombuffer(self.colours, np.uint8).reshape(-1, 3)
        return bool((np.ptp(colours, axis=0) <= 2).all())


def fingerprint(picture: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB picture of any size; one of about 64 pixels a side does."""
    gray = np.asarray(picture.convert("L").resize(_HASH_SIZE, Image.Resampling.BOX), np.int16)
    brighter = gray[:, 1:] > gray[:, :-1]
    colours = picture.resize((_COLOURS_SIDE, _COLOURS_SIDE), Image.Resampling.BOX)
    return Fingerprint(int.from_bytes(np.packbits(brighter).tobytes(), "big"), colours.tobytes())


def groups_of_near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[list[int]]:
    """Indices of pictures that look the same, each group and the groups in order; pictures on their own are left out.

    Chains count: where A is near B and B near C, all three are one group.
    """
    unique = list(dict.fromkeys(fingerprints))
    place = {each: index for index, each in enumerate(unique)}
    hashes = np.array([each.hash for each in unique], np.uint64)
    colours = np.frombuffer(b"".join(each.colours for each in unique), np.uint8).reshape(-1, 3 * _COLOURS_SIDE**2)
    leader = list(range(len(unique)))
    for first, second in _near_pairs(hashes, colours):
        _join(leader, first, second)
    groups: dict[int, list[int]] = {}
    for index, each in enumerate(fingerprints):
        groups.setdefault(_find(leader, place[each]), []).append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def _near_pairs(hashes: NDArray[np.uint64], colours: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Pairs of indices whose hash and colours are close, some of them more than once."""
    for two_bands in itertools.combinations(_BANDS, 2):
        mask = np.uint64(sum((1 << end) - (1 << start) for start, end in two_bands))
        order = np.argsort(hashes & mask, kind="stable")
        keys, sorted_hashes = (hashes & mask)[order], hashes[order]
        # Neighbours one apart, then two apart and so on, as long as any share a key: all in numpy, none twice.
        left = np.arange(len(order) - 1)
        for apart in itertools.count(1):
            left = left[left + apart < len(order)]
            left = left[keys[left] == keys[left + apart]]
            if not len(left):
                break
            distance = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[left + apart])
            near = left[distance <= MAX_DISTANCE]
            first, second = order[near], order[near + apart]
            difference = np.abs(colours[first].astype(np.int16) - colours[second]).mean(axis=1)
            is_same = difference <= MAX_COLOUR_DIFFERENCE
            yield from zip(first[is_same].tolist(), second[is_same].tolist(), strict=True)


def _find(leader: list[int], index: int) -> int:
    while leader[index] != index:
        leader[index] = leader[leader[index]]
        index = leader[index]
    return index


def _join(leader: list[int], first: int, second: int) -> None:
    first, second = _find(leader, first), _find(leader, second)
    leader[max(first, second)] = min(first, second)
