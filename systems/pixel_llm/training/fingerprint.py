"""What a resumed run should find as the checkpoint's run had it, and how it is told that something is different.

A run may well go on with other data or other settings, but never without a word: then its history is of two runs. So a
checkpoint holds a fingerprint of the training and validation data and the settings that what is learned follows from,
and a resume compares. Nothing is refused here; what does not fit at all (sizes, an optimizer) is another matter.
"""

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from systems.pixel_llm.data.fingerprint import DataFingerprint, data_fingerprint, shared_names, some, told_changes
from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.models import PixelLLMConfig
from systems.pixel_llm.training.options import TrainingOptions

__all__ = ["RunFingerprint", "run_fingerprint", "told_differences"]

# How long a run goes on, what it keeps and shows, and what gives the same result another way. The seed is told apart.
_CHANGE_NOTHING_LEARNED = frozenset(
    {
        "checkpoint_async", "save_optimizer",
        "deterministic", "early_stopping_min_delta", "early_stopping_patience", "gradient_checkpointing", "log_to",
        "max_bad_steps", "max_checkpoints", "max_minutes", "max_steps", "metric", "progress", "save_every_steps",
        "score_every", "seed",
    }
)  # fmt: skip

_CONSEQUENCES = {
    "batch_size": "pictures come in other batches from here on, and in an epoch under way some twice or not at all",
    "weights": "pictures come in another order from here on, and in an epoch under way some twice or not at all",
    "gradient_accumulation_steps": "an epoch has another number of steps from here on",
    "precision": "results differ in their rounding from here on",
    "image_size": "the model sees pictures of another size from here on",
}

_IF_NOT_MEANT = "If that is not meant, stop, and resume with the data as it was."


@dataclass(frozen=True, kw_only=True)
class RunFingerprint:
    """The data and settings of a run."""

    train: DataFingerprint
    validation: DataFingerprint | None
    settings: dict[str, Any]
    """Name -> value: of the options, the loader, the dataset and the model."""

    def to_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "RunFingerprint":
        """From the checkpoint.

        Raises:
            CheckpointError: it is no such record.
        """
        if not isinstance(values, dict) or not isinstance(values.get("settings"), dict):
            raise CheckpointError(f"The checkpoint's record of its run cannot be read: {str(values)[:80]!r}.")
        validation = values.get("validation")
        return cls(
            train=DataFingerprint.from_dict(values.get("train")),
            validation=None if validation is None else DataFingerprint.from_dict(validation),
            settings=values["settings"],
        )


def run_fingerprint(
    train_loader: Any, val_loader: Any, options: TrainingOptions, *, config: PixelLLMConfig, **resolved: Any
) -> RunFingerprint:
    """The fingerprint of a run over these loaders.

    Args:
        train_loader: any loader; what it and its dataset tell is taken in.
        val_loader: the same, or None.
        options: the settings of training.
        config: the model's; of it, what its weights do not tell.
        resolved: what became of settings that leave a choice open, such as `precision`.
    """
    dataset = getattr(train_loader, "dataset", None)
    settings = {name: value for name, value in asdict(options).items() if name not in _CHANGE_NOTHING_LEARNED}
    settings |= {name: getattr(config, name) for name in ("dropout", "stochastic_depth")}
    settings |= {"batch_size": getattr(train_loader, "batch_size", None), "weights": _weights_digest(train_loader)}
    settings |= {name: getattr(dataset, name, None) for name in ("augment", "caption_choice")}
    if (preprocessing := getattr(dataset, "preprocessing", None)) is not None:
        settings |= asdict(preprocessing)
    validation = None
    if val_loader is not None:
        validation = data_fingerprint(getattr(val_loader, "dataset", None), beside=dataset)
    return RunFingerprint(
        train=data_fingerprint(dataset),
        validation=validation,
        settings={name: _plain(value) for name, value in (settings | resolved).items()},
    )


def _weights_digest(loader: Any) -> str | None:
    """How often each picture comes in an epoch, as far as it takes to see a change."""
    weights = getattr(loader, "weights", None)
    return None if weights is None else f"{zlib.crc32(np.asarray(weights, np.float64).tobytes()):08x}"


def _plain(value: Any) -> Any:
    """As the checkpoint gives it back: lists, numbers, texts."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# --- what is different ------------------------------------------------------------------------------------------------


def told_differences(before: RunFingerprint, now: RunFingerprint) -> list[str]:
    """What is different, a sentence or some each; none where nothing is.

    Raises:
        CheckpointError: the record of what was before is damaged.
    """
    told = [_told_train(before.train, now.train), *_told_validation(before, now)]
    told += [_told_setting(name, before.settings.get(name, value), value) for name, value in now.settings.items()]
    return [each for each in told if each is not None]


def _told_train(before: DataFingerprint, now: DataFingerprint) -> str | None:
    changes = told_changes(before, now)
    if changes is None:
        return None
    return (
        f"The training data changed since the checkpoint: {changes}. Pictures come in another order from here on, and "
        f"in an epoch under way some come twice or not at all. {_IF_NOT_MEANT}"
    )


def _told_validation(before: RunFingerprint, now: RunFingerprint) -> Iterator[str]:
    if before.validation is None or now.validation is None:
        if before.validation != now.validation:
            is_lost = now.validation is None
            yield (
                f"The checkpoint's run had {'' if is_lost else 'no '}validation data, and this one has "
                f"{'none' if is_lost else 'some'}: the best checkpoint is judged by something else from here on."
            )
    elif (changes := told_changes(before.validation, now.validation)) is not None:
        yield (
            f"The validation data changed since the checkpoint: {changes}. Losses and scores from here on cannot be "
            f"compared with those before, and best is looked for among both. {_IF_NOT_MEANT}"
        )
    if now.validation is None:
        return
    known = [] if before.validation is None else shared_names(before.train, before.validation)
    if trained_on := sorted({*shared_names(before.train, now.validation)} - {*known}):
        yield (
            f"{len(trained_on):,} of the pictures to validate on were trained on before the checkpoint "
            f"({some(trained_on)}): losses and scores look better for it than they are."
        )


def _told_setting(name: str, before: Any, now: Any) -> str | None:
    if before == now:
        return None
    told = f"{name}={now!r} differs from the checkpoint's {name}={before!r}"
    if name == "weights":
        told = "How often each picture comes in an epoch differs from the checkpoint's run"
    return f"{told}: {_CONSEQUENCES[name]}." if name in _CONSEQUENCES else f"{told}."
