"""Which pictures look the same: a 64-bit fingerprint of each, and the groups of fingerprints that are close.

`fingerprint` is a difference hash (which of two neighbouring spots of a 9 x 8 picture is brighter) with a 4 x 4 picture
in colour beside it: the hash finds, the colours confirm, since a red and a blue car of one drawing have the same hash
and different captions. `groups_of_near_duplicates` never compares all with all: of two hashes that differ in at most 4
of 64 bits, cut into six bands, at least two bands are equal, so only fingerprints that share two bands are compared.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["COLOURS_BYTES", "MAX_DISTANCE", "Fingerprint", "fingerprint", "groups_of_near_duplicates"]

MAX_DISTANCE = 4
"""Bits of 64 in which the hashes of one picture, scaled or saved anew, may differ."""

MAX_COLOUR_DIFFERENCE = 6.0
"""Levels of 255 that the 4 x 4 colours of two such pictures may differ in, on average."""

# Two bands more than MAX_DISTANCE can spoil. Together they are the 64 bits.
_BANDS = ((0, 11), (11, 22), (22, 33), (33, 44), (44, 54), (54, 64))
_MAX_APART = 1000
"""Of more fingerprints with two equal bands, each is compared with its nearest only, to bound the time."""
_COLOURS_SIDE = 4
COLOURS_BYTES = 3 * _COLOURS_SIDE**2
"""Of a fingerprint."""
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
    # In the order of their colours: where many pictures share a hash, like ones stand side by side.
    unique = sorted(set(fingerprints), key=lambda each: (each.hash, each.colours))
    place = {each: index for index, each in enumerate(unique)}
    hashes = np.array([each.hash for each in unique], np.uint64)
    colours = np.frombuffer(b"".join(each.colours for each in unique), np.uint8).reshape(-1, COLOURS_BYTES)
    labels = _labels_of_groups(hashes, colours)
    groups: dict[int, list[int]] = {}
    for index, each in enumerate(fingerprints):
        groups.setdefault(labels[place[each]], []).append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def _labels_of_groups(hashes: NDArray[np.uint64], colours: NDArray[np.uint8]) -> list[int]:
    """A number for each fingerprint, the same for those of one group."""
    labels = np.arange(len(hashes))
    for two_bands in itertools.combinations(_BANDS, 2):
        keys = hashes & np.uint64(sum((1 << end) - (1 << start) for start, end in two_bands))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Neighbours one apart, then two apart and so on, as long as any share a key: none is compared twice.
        left = np.arange(len(order) - 1)
        for apart in range(1, _MAX_APART + 1):
            left = left[left + apart < len(order)]
            left = left[keys[left] == keys[left + apart]]
            if len(left) and apart & (apart - 1) == 0:  # now and then: it costs as much as some comparisons
                left = left[_is_in_several_groups(keys, labels[order])[left]]
            if not len(left):
                break
            first, second = order[left], order[left + apart]
            is_open = labels[first] != labels[second]
            first, second = first[is_open], second[is_open]
            is_near = np.bitwise_count(hashes[first] ^ hashes[second]) <= MAX_DISTANCE
            first, second = first[is_near], second[is_near]
            difference = np.abs(colours[first].astype(np.int16) - colours[second]).mean(axis=1)
            is_same = difference <= MAX_COLOUR_DIFFERENCE
            _join(labels, first[is_same], second[is_same])
    found: list[int] = labels.tolist()
    return found


def _is_in_several_groups(keys: NDArray[np.uint64], labels: NDArray[np.int_]) -> NDArray[np.bool_]:
    """For each of some sorted keys, whether those that share it have more than one label: else nothing is left to find.

    Without this, ten thousand pictures of one scene would be compared all with all.
    """
    is_start = np.ones(len(keys), np.bool_)
    is_start[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(is_start)
    is_mixed = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    several: NDArray[np.bool_] = is_mixed[np.cumsum(is_start) - 1]
    return several


def _join(labels: NDArray[np.int_], first: NDArray[np.int_], second: NDArray[np.int_]) -> None:
    """Give each of these pairs, and all that has their labels, one label: the least, which is an index of the group."""
    while len(first):
        one, other = labels[first], labels[second]
        least = np.minimum(one, other)
        np.minimum.at(labels, one, least)
        np.minimum.at(labels, other, least)
        while (labels != (shorter := labels[labels])).any():
            labels[:] = shorter
        is_open = labels[first] != labels[second]
        first, second = first[is_open], second[is_open]
