"""What is inside torch's `Subset` and `ConcatDataset`, and what all of it together tells: captions, samples.

A split made by torch, or several folders joined by it, should train as one `ImageCaptionDataset` does. So whoever wants
to know something of a dataset asks here, and a dataset of the user's own, which may tell nothing, gets None.
"""

from typing import Any

from torch.utils.data import ConcatDataset, Subset

from systems.pixel_llm.data.sample_table import SampleTable

__all__ = ["captions_of", "innermost_datasets", "samples_of"]


def innermost_datasets(dataset: Any) -> list[Any]:
    """The datasets inside Subset and ConcatDataset, or the dataset itself; none of None."""
    if isinstance(dataset, Subset):
        return innermost_datasets(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return [inner for part in dataset.datasets for inner in innermost_datasets(part)]
    return [] if dataset is None else [dataset]


def samples_of(dataset: Any) -> SampleTable | None:
    """The samples in the order of the dataset, or None where it does not tell them."""
    if isinstance(dataset, ConcatDataset):
        parts = [samples_of(part) for part in dataset.datasets]
        tables = [part for part in parts if part is not None]
        return SampleTable.joined(tables) if len(tables) == len(parts) else None
    if isinstance(dataset, Subset):
        inner = samples_of(dataset.dataset)
        return None if inner is None else inner.select(dataset.indices)
    samples = getattr(dataset, "samples", None)
    return samples if isinstance(samples, SampleTable) else None


def captions_of(dataset: Any) -> list[str] | None:
    """All captions, flat, or None where the dataset does not tell them."""
    if isinstance(dataset, ConcatDataset):
        parts = [captions_of(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [caption for part in parts for caption in part or []]
    if isinstance(dataset, Subset):
        return _captions_of_subset(dataset)
    captions = getattr(dataset, "captions", None)
    return None if captions is None else list(captions)


def _captions_of_subset(subset: Subset[Any]) -> list[str] | None:
    inner = subset.dataset
    samples = getattr(inner, "samples", None)
    if samples is not None:
        return [caption for index in subset.indices for caption in samples[index].captions]
    captions = captions_of(inner)
    if captions is None or len(captions) != len(inner):  # type: ignore[arg-type]
        return None
    return [captions[index] for index in subset.indices]
