"""A model as a folder of four files, nothing executable: config, weights (safetensors), tokenizer, preprocessing."""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from systems.pixel_llm.checkpoint_folder import AVERAGE_FILE
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_reader import FolderReader, open_folder
from systems.pixel_llm.folder_writer import FolderSink, folder_writer
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.preprocessing import PREPROCESSING_FILE, Preprocessing
from systems.pixel_llm.tensor_bytes import sources_of
from systems.pixel_llm.tensor_file import TensorEntry, write_tensors
from systems.pixel_llm.tensor_fit import misfits, told_misfits
from systems.pixel_llm.tokenizer import TOKENIZER_FILE, CaptionTokenizer
from systems.pixel_llm.weights_file import WEIGHTS_FILE, expected_tensors, read_weights

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "load", "load_into", "save", "write_files"]

CONFIG_FILE = "config.json"
MODEL_TYPE = "pixel_llm"
MAX_CONFIG_BYTES = 2**20
EMBEDDING_NAME = "decoder.token_embedding.weight"
# Settings that do not decide the shape of any tensor but the embedding table, which is resized.
FREE_SETTINGS = (
    "vocab_size",
    "dropout",
    "stochastic_depth",
    "vision_num_heads",
    "text_num_heads",
    "text_embed_dim",
    "image_size",
)


def save(model: "PixelLLM", folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write the model's four files into `folder`, which is made if need be; the weights as `dtype`, if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder_writer(folder) as writer:
        write_files(model, writer, dtype=dtype)


def write_files(model: "PixelLLM", writer: FolderSink, *, dtype: torch.dtype | None = None) -> None:
    """Write the model's four files; the weights as `dtype`, if one is given."""
    settings = {"model_type": MODEL_TYPE, **model.config.to_dict()}
    writer.write(CONFIG_FILE, (json.dumps(settings, indent=2) + "\n").encode())
    with writer.file(WEIGHTS_FILE) as file:
        write_tensors(file, sources_of(model.state_dict(), dtype=dtype), metadata={"format": "pt"})
    writer.write(TOKENIZER_FILE, model.tokenizer.definition.encode())
    writer.write(PREPROCESSING_FILE, model.preprocessing.to_json().encode())


def load(kind: type["PixelLLM"], folder: Path, *, device: torch.device) -> "PixelLLM":
    """A new model from `folder`, on `device`, in eval mode."""
    reader = open_folder(folder)
    config = read_config(reader)
    # An average, of training with one, captions better, and is what the checkpoint was judged by.
    files = [WEIGHTS_FILE, *([AVERAGE_FILE] if reader.holds(AVERAGE_FILE) else [])]
    num_layers, num_tensors = config.vision_num_layers + config.text_num_layers, len(_entries(reader, files))
    if num_layers > num_tensors:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit {folder / CONFIG_FILE}: {num_tensors} tensors for {num_layers} "
            "layers."
        )
    # Without memory at first: none is taken, and nothing drawn, before the file is seen to hold all of it.
    with torch.device("meta"):
        model = kind(config)
    _adopt(model, reader, files, device=device, strict=True)
    return model.to(device).eval()


def load_into(
    model: "PixelLLM", reader: FolderReader, *, device: torch.device | str | None, strict: bool
) -> dict[str, str]:
    """Take weights, tokenizer and preprocessing into a model of the same sizes, or change nothing.

    Without `strict` take what fits, and give what was left: name of a tensor or file -> why.
    """
    saved, own = read_config(reader), model.config
    sizes = [field.name for field in fields(PixelLLMConfig) if field.name not in FREE_SETTINGS]
    derived = ["image_height_width", "text_width", "vision_heads", "text_heads"]
    clashes = "; ".join(
        f"{name}={getattr(saved, name)} there, {getattr(own, name)} here"
        for name in (*sizes, *derived)
        if getattr(saved, name) != getattr(own, name)
    )
    if clashes and strict:
        raise CheckpointError(
            f"{reader.folder} holds a model of other sizes: {clashes}. Create the model with the saved settings "
            f"({reader.folder / CONFIG_FILE}), use PixelLLM.from_pretrained, or pass strict=False to take what fits."
        )
    left = _adopt(model, reader, [WEIGHTS_FILE], device=torch.device(device or "cpu"), strict=strict)
    return ({CONFIG_FILE: clashes} if clashes else {}) | left


def read_config(reader: FolderReader) -> PixelLLMConfig:
    """The config in a folder.

    Raises:
        CheckpointError: there is none, or it is not one of a Pixel LLM.
    """
    path = reader.folder / CONFIG_FILE
    if not reader.holds(CONFIG_FILE):
        raise CheckpointError(
            f"{reader.folder} holds no model: there is no {CONFIG_FILE}. Name a checkpoint's folder, or the file of "
            "weights alone."
        )
    text = reader.text(CONFIG_FILE, max_bytes=MAX_CONFIG_BYTES, what="model config")
    try:
        settings = json.loads(text)
        if settings.pop("model_type", None) != MODEL_TYPE:
            raise CheckpointError(f"{path}: not the config of a Pixel LLM (its model_type is not {MODEL_TYPE!r}).")
        return PixelLLMConfig.from_dict(settings)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable config ({error}).") from error


def _entries(reader: FolderReader, files: Sequence[str]) -> dict[str, TensorEntry]:
    """What the files of tensors hold; a later one goes before an earlier one."""
    return {name: entry for file in files for name, entry in reader.header(file).tensors.items()}


def _adopt(
    model: "PixelLLM", reader: FolderReader, files: Sequence[str], *, device: torch.device, strict: bool
) -> dict[str, str]:
    """Check everything, then change the model; give what was left."""
    path, config_path = reader.folder / WEIGHTS_FILE, reader.folder / CONFIG_FILE
    tokenizer, preprocessing = CaptionTokenizer.read(reader), Preprocessing.read(reader)
    left: dict[str, str] = {}
    if preprocessing.image_size != model.config.image_height_width:
        left[PREPROCESSING_FILE] = (
            f"it makes pictures of {preprocessing.image_size}, and the model takes {model.config.image_height_width}"
        )
        if strict:
            raise CheckpointError(
                f"{reader.folder / PREPROCESSING_FILE} does not fit {config_path}: {left[PREPROCESSING_FILE]}."
            )
    found, expected = _entries(reader, files), expected_tensors(model)
    table = found.get(EMBEDDING_NAME)
    if table is not None and len(table.shape) == 2:  # its rows follow the tokenizer
        if table.shape[0] < tokenizer.vocab_size:
            raise CheckpointError(
                f"{path}: {table.shape[0]} embeddings for a tokenizer of {tokenizer.vocab_size} tokens."
            )
        width = expected[EMBEDDING_NAME].shape[1]
        expected[EMBEDDING_NAME] = replace(expected[EMBEDDING_NAME], shape=(table.shape[0], width))
    wrong = misfits(found, expected)
    if wrong and strict:
        raise CheckpointError(
            f"{path} does not fit {config_path}: {len(wrong)} tensors differ: {told_misfits(wrong)}. Choose another "
            "checkpoint."
        )
    weights = {name: each for file in files for name, each in read_weights(reader, file, device=device).items()}
    if EMBEDDING_NAME in wrong:
        left[TOKENIZER_FILE] = "the embedding table of its tokens does not fit"
    else:
        if (rows := len(weights[EMBEDDING_NAME])) != model.num_embeddings:  # else the table would be copied once more
            model.resize_embeddings(rows)
        model.tokenizer = tokenizer
    if PREPROCESSING_FILE not in left:
        model.preprocessing = preprocessing
    if model.device.type == "meta":
        model.to_empty(device="cpu")
    model.load_state_dict({name: each for name, each in weights.items() if name not in wrong}, strict=strict)
    return left | wrong
