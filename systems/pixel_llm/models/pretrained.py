"""A model as a folder of four files, nothing executable: config, weights (safetensors), tokenizer, preprocessing."""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from systems.pixel_llm.checkpoint_folder import AVERAGE_FILE
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_writer import FolderWriter, folder_writer
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.preprocessing import PREPROCESSING_FILE, Preprocessing
from systems.pixel_llm.tensor_bytes import sources_of
from systems.pixel_llm.tensor_file import write_tensors
from systems.pixel_llm.tokenizer import TOKENIZER_FILE, CaptionTokenizer

if TYPE_CHECKING:
    from systems.pixel_llm.models.pixel_llm import PixelLLM

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "load", "load_into", "save", "write_files"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
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


def write_files(model: "PixelLLM", writer: FolderWriter, *, dtype: torch.dtype | None = None) -> None:
    """Write the model's four files; the weights as `dtype`, if one is given."""
    settings = {"model_type": MODEL_TYPE, **model.config.to_dict()}
    writer.write(CONFIG_FILE, (json.dumps(settings, indent=2) + "\n").encode())
    with writer.file(WEIGHTS_FILE) as file:
        write_tensors(file, sources_of(model.state_dict(), dtype=dtype), metadata={"format": "pt"})
    writer.write(TOKENIZER_FILE, model.tokenizer.definition.encode())
    writer.write(PREPROCESSING_FILE, model.preprocessing.to_json().encode())


def load(kind: type["PixelLLM"], folder: Path, *, device: torch.device) -> "PixelLLM":
    """A new model from `folder`, on `device`, in eval mode."""
    config = read_config(folder)
    weights = _read_weights(folder / WEIGHTS_FILE, device)
    if (folder / AVERAGE_FILE).is_file():
        # Of training with an average: it captions better, and is what the checkpoint was judged by.
        weights |= _read_weights(folder / AVERAGE_FILE, device)
    num_layers = config.vision_num_layers + config.text_num_layers
    if num_layers > len(weights):
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit {folder / CONFIG_FILE}: {len(weights)} tensors for {num_layers} "
            "layers."
        )
    # Without memory at first: none is taken, and nothing drawn, before the file is seen to hold all of it.
    with torch.device("meta"):
        model = kind(config)
    _adopt(model, folder, weights)
    return model.to(device).eval()


def load_into(model: "PixelLLM", folder: Path, *, device: torch.device | str | None) -> None:
    """Take weights, tokenizer and preprocessing from `folder` into a model of the same sizes, or change nothing."""
    saved = read_config(folder)
    own = model.config
    sizes = [field.name for field in fields(PixelLLMConfig) if field.name not in FREE_SETTINGS]
    derived = ["image_height_width", "text_width", "vision_heads", "text_heads"]
    clashes = [
        f"{name}={getattr(saved, name)} there, {getattr(own, name)} here"
        for name in (*sizes, *derived)
        if getattr(saved, name) != getattr(own, name)
    ]
    if clashes:
        raise CheckpointError(
            f"{folder} holds a model of other sizes: {'; '.join(clashes)}. Create the model with the saved settings "
            f"({folder / CONFIG_FILE}), or use PixelLLM.from_pretrained."
        )
    _adopt(model, folder, _read_weights(folder / WEIGHTS_FILE, torch.device(device or "cpu")))


def read_config(folder: Path) -> PixelLLMConfig:
    """The config in `folder`.

    Raises:
        CheckpointError: there is none, or it is not one of a Pixel LLM.
    """
    path = folder / CONFIG_FILE
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path}: larger than any model config ({path.stat().st_size} bytes).")
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.pop("model_type", None) != MODEL_TYPE:
            raise CheckpointError(f"{path}: not the config of a Pixel LLM (its model_type is not {MODEL_TYPE!r}).")
        return PixelLLMConfig.from_dict(settings)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds no model: there is no {CONFIG_FILE}. Name a checkpoint folder."
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable config ({error}).") from error


def _read_weights(path: Path, device: torch.device) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read ({error}).") from error
    return weights


def _adopt(model: "PixelLLM", folder: Path, weights: dict[str, Tensor]) -> None:
    """Check everything, then change the model."""
    tokenizer = CaptionTokenizer.load(folder)
    preprocessing = Preprocessing.load(folder)
    if preprocessing.image_size != model.config.image_height_width:
        raise CheckpointError(
            f"{folder / PREPROCESSING_FILE} does not fit {folder / CONFIG_FILE}: it makes pictures of "
            f"{preprocessing.image_size}, and the model takes {model.config.image_height_width}."
        )
    path = folder / WEIGHTS_FILE
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in weights.items()}
    if len(found.get(EMBEDDING_NAME, ())) == 2:  # its rows follow the tokenizer
        rows = found[EMBEDDING_NAME][0]
        if rows < tokenizer.vocab_size:
            raise CheckpointError(f"{path}: {rows} embeddings for a tokenizer of {tokenizer.vocab_size} tokens.")
        expected[EMBEDDING_NAME][0] = rows
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        first = wrong[0]
        raise CheckpointError(
            f"{path} does not fit {folder / CONFIG_FILE}: {len(wrong)} tensors differ, first {first!r} "
            f"(expected {expected.get(first)}, found {found.get(first)})."
        )
    model.resize_embeddings(expected[EMBEDDING_NAME][0])
    if model.device.type == "meta":
        model.to_empty(device="cpu")
    model.load_state_dict(weights)
    model.tokenizer, model.preprocessing = tokenizer, preprocessing
