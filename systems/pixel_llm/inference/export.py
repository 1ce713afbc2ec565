"""A checkpoint -> a plain model folder to give away: four files that load, and README.md, the model card.

`export_model` loads the checkpoint, writes the model without optimizer and training state, loads what it wrote,
compares it with the original, and only then puts the folder in place, whole or not at all. The card is written by a
function that the caller gives, since what is told there comes from more than the model.

An existing folder is replaced only where that is asked for and all it holds is an exported model.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from systems.pixel_llm.errors import CheckpointError, ConfigError, PixelLLMError
from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from systems.pixel_llm.preprocessing import PREPROCESSING_FILE
from systems.pixel_llm.tokenizer import TOKENIZER_FILE
from systems.pixel_llm.whole_folder import OLD_PREFIX, discard_folder, remove_stale, whole_folder

__all__ = ["DTYPES", "MODEL_CARD_FILE", "ExportedModel", "export_model"]

MODEL_CARD_FILE = "README.md"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FILES = frozenset({CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, PREPROCESSING_FILE, MODEL_CARD_FILE})


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """What is in the folder beside the model card."""

    model: PixelLLM
    """As it was loaded from the folder."""
    dtype: str
    """Of the weights in their file: a key of DTYPES."""
    num_parameters: int
    num_bytes: int
    """Of the four files together."""
    sha256: str
    """Of the file of weights, in hexadecimal."""


def export_model(
    checkpoint: Path,
    out: Path,
    *,
    write_card: Callable[[ExportedModel], str],
    dtype: str = "fp32",
    overwrite: bool = False,
) -> ExportedModel:
    """Write the model in `checkpoint` as the folder `out`.

    Args:
        checkpoint: a checkpoint or another model folder.
        out: must be absent or empty, or, with `overwrite`, hold an exported model and nothing else.
        write_card: gives the text of README.md.
        dtype: how the weights are stored, a key of DTYPES. Loading gives float32 again.
        overwrite: replace an exported model.

    Raises:
        ConfigError: `dtype` is unknown or too narrow for the weights, or `out` is `checkpoint`.
        CheckpointError: the checkpoint is damaged, or its weights are not all numbers.
        PixelLLMError: `out` may not be replaced, or what was written does not load as what it is a copy of.
        OSError: the disk is full, read-only or failing.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    out = Path(os.path.abspath(out))  # noqa: PTH100  # resolve() would follow a link that is to be refused
    if out.exists() and out.samefile(checkpoint):
        raise ConfigError(f"{out} is the model to export. Name another folder for the copy.")
    _settle_leftovers(out)
    refuse = partial(_refuse_foreign, overwrite=overwrite)
    refuse(out)  # before the weights are read
    model = PixelLLM.from_pretrained(checkpoint)
    _check_weights(model, checkpoint, dtype)
    with whole_folder(out, refuse_foreign=refuse, verify=_check_complete) as working:
        model.save_pretrained(working, dtype=DTYPES[dtype])
        exported = _read_back(working, model, dtype)
        (working / MODEL_CARD_FILE).write_text(write_card(exported), encoding="utf-8", newline="\n")
    return exported


def _check_weights(model: PixelLLM, checkpoint: Path, dtype: str) -> None:
    """Raises CheckpointError or ConfigError where weights are not finite, or would not be as `dtype`."""
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{checkpoint}: {name} holds values that are no numbers, so that training went wrong before it was "
                "saved. Choose another checkpoint."
            )
        if not torch.isfinite(tensor.to(DTYPES[dtype])).all():
            raise ConfigError(
                f"{name} holds {tensor.abs().max().item():g}, which is too large for {dtype}. Use bf16, which has the "
                "range of fp32 in the same two bytes."
            )


def _read_back(folder: Path, model: PixelLLM, dtype: str) -> ExportedModel:
    """Load the written folder and compare it with `model`: weights to the bit after rounding, all else as it is.

    Raises:
        PixelLLMError: they differ.
    """
    loaded = PixelLLM.from_pretrained(folder)
    found, wanted = loaded.state_dict(), model.state_dict()
    differing = [
        name
        for name, tensor in wanted.items()
        if not torch.equal(found[name], tensor.to(DTYPES[dtype]).to(tensor.dtype))
    ]
    for what in ("config", "preprocessing"):
        if getattr(loaded, what) != getattr(model, what):
            differing.append(what)
    if loaded.tokenizer.definition != model.tokenizer.definition:
        differing.append("tokenizer")
    if differing:
        raise PixelLLMError(
            f"What was written to {folder.parent} does not read as it should: {', '.join(differing[:3])} differ. The "
            "disk or its memory may be failing; nothing is kept. Export to another disk."
        )
    with (folder / WEIGHTS_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedModel(
        model=loaded,
        dtype=dtype,
        num_parameters=sum(parameter.numel() for parameter in loaded.parameters()),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        sha256=digest,
    )


def _check_complete(folder: Path) -> None:
    found = {path.name for path in folder.iterdir() if path.stat().st_size > 0}
    if found != _FILES:
        raise PixelLLMError(f"{folder.parent}: expected to have written {sorted(_FILES)}, found {sorted(found)}.")


def _refuse_foreign(out: Path, *, overwrite: bool) -> None:
    """Raises PixelLLMError where `out` may not be replaced."""
    if out.is_symlink():
        raise PixelLLMError(f"{out} is a link. Name the folder itself, or another.")
    if not out.exists():
        return
    if not out.is_dir():
        raise PixelLLMError(f"{out} is a file. Name a folder for the model.")
    if not any(out.iterdir()):
        return
    if not _is_exported_model(out):
        others = sorted(_others_in(out))
        what = f"{others[0]!r}, which is no part of an exported model" if others else "no whole model"
        raise PixelLLMError(f"{out} holds {what}, and is never replaced. Name another folder.")
    if not overwrite:
        raise PixelLLMError(f"{out} holds an exported model. Add --overwrite to replace it, or name another folder.")


def _is_exported_model(folder: Path) -> bool:
    """Whether `folder` holds a model and nothing that an export would not write."""
    return all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)) and not _others_in(folder)


def _others_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in _FILES or not path.is_file()]


def _settle_leftovers(out: Path) -> None:
    """Put right what an export that was killed has left beside `out`: its own hidden folders, and no one else's."""
    if not out.parent.is_dir():
        return
    for path in list(out.parent.iterdir()):
        if f"-{out.name}-" in path.name:
            remove_stale(path)
    old = out.with_name(OLD_PREFIX + out.name)
    if old.is_symlink() or not old.is_dir() or not _is_exported_model(old):
        return
    if out.exists():
        discard_folder(old)
    else:
        old.replace(out)
