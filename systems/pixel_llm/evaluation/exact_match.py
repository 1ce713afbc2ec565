"""Exact match: the share of captions that are the reference to the letter. Fair only where one wording is right."""

from collections.abc import Sequence

__all__ = ["exact_match"]


def exact_match(captions: Sequence[str], references: Sequence[str]) -> float:
    """The share, 0..1, of `captions` that equal their reference but for space at the ends.

    Raises:
        ValueError: there is none, or the two differ in number.
    """
    if not captions or len(captions) != len(references):
        raise ValueError(
            f"Expected as many captions as references, at least one; found {len(captions)}, {len(references)}."
        )
    matches = sum(caption.strip() == reference.strip() for caption, reference in zip(captions, references, strict=True))
    return matches / len(captions)
