"""CLIPScore and RefCLIPScore: how well a caption fits the picture itself, as a CLIP model on this machine sees it.

J. Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021, section 3. The
caption, after "A photo depicts ", and the picture become a vector each; CLIPScore is 2.5 times the cosine between them,
never below 0. RefCLIPScore is the harmonic mean of that and the highest cosine to a reference. A value says something
only beside values of the same weights, so the signature has their sha256; published ones are of OpenAI's ViT-B/32.

The model comes from a folder as Hugging Face lays them out, through transformers (the extra `clip`), with nothing
fetched and nothing unpickled: weights must be safetensors. A text is encoded once, and one picture at a time is open.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from systems.pixel_llm.data.images import open_image, to_rgb
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.errors import DatasetError, NotComputedError
from systems.pixel_llm.evaluation.ngrams import check_pairs

if TYPE_CHECKING:
    import torch

__all__ = ["PROMPT", "WEIGHT", "ClipScores", "Picture", "clip_scores"]

PROMPT = "A photo depicts "
"""What stands before captions and references."""
WEIGHT = 2.5
"""What cosines are multiplied by for CLIPScore, to spread them over 0..1; the highest possible score too."""

Picture = str | PicturePath | Image.Image
"""A path, or a picture that is already open."""

_FORM = (
    "a folder with config.json of a CLIP model, model.safetensors, and the files of its tokenizer and image processor, "
    "as Hugging Face lays them out (published values are of openai/clip-vit-base-patch32)"
)


@dataclass(frozen=True)
class ClipScores:
    """The scores of N pictures' captions."""

    clip_score: NDArray[np.float64]
    """[N] 0..2.5, most 0.5..0.9 with ViT-B/32; the score of the set is their mean."""
    ref_clip_score: NDArray[np.float64]
    """[N] 0..1.43; the score of the set is their mean."""
    weights: str
    """The first 12 digits of the sha256 of the weights."""
    library: str
    """Name and version of what computed it."""


def clip_scores(
    pictures: Sequence[Picture],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    folder: str | os.PathLike[str],
    device: str | None = None,
    batch_size: int = 32,
) -> ClipScores:
    """Score one caption a picture with the CLIP model in `folder`; plain text, cut off where CLIP's context ends.

    `device` left out means a GPU where there is one.

    Raises:
        NotComputedError: transformers is missing, the folder holds no CLIP model in safetensors that can be loaded, or
            a picture cannot be read.
        ValueError: pictures, captions and references differ in number, there is none, or a picture has no reference.
    """
    check_pairs(captions, references)
    if len(pictures) != len(captions):
        raise ValueError(f"Expected a picture a caption; found {len(pictures)} pictures, {len(captions)} captions.")
    model = _Clip(Path(folder), device=device)
    said = list(captions)
    wanted = [text for each in references for text in each]
    texts = list(dict.fromkeys(said + wanted))
    row = {text: index for index, text in enumerate(texts)}
    text_features = np.concatenate([model.encode_texts(texts[i : i + 256]) for i in range(0, len(texts), 256)])
    features = text_features[[row[text] for text in said]]
    cosines = []
    for first in range(0, len(pictures), batch_size):
        batch = slice(first, first + batch_size)
        cosines.append((model.encode_pictures(pictures[batch]) * features[batch]).sum(axis=1))
    clip_score = WEIGHT * np.maximum(np.concatenate(cosines), 0)
    to_references = [
        max(0.0, float((text_features[[row[text] for text in each]] @ feature).max()))
        for each, feature in zip(references, features, strict=True)
    ]
    return ClipScores(
        clip_score=clip_score,
        ref_clip_score=_harmonic_mean(clip_score, np.array(to_references)),
        weights=model.weights,
        library=model.library,
    )


def _harmonic_mean(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    both = one + other
    return np.divide(2 * one * other, both, out=np.zeros_like(both), where=both > 0)


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    try:
        return open_image(picture)
    except DatasetError as error:
        raise NotComputedError(f"CLIPScore needs every picture. {error}") from error


class _Clip:
    """A CLIP model with its tokenizer and image processor; vectors that it gives are float64 of length 1."""

    def __init__(self, folder: Path, *, device: str | None) -> None:
        weights = _weights_in(folder)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise NotComputedError(
                "CLIPScore needs transformers, which is not installed. Run: pip install 'pixel-llm[clip]'."
            ) from error
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            with _quiet(transformers):
                model, loaded = transformers.CLIPModel.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
                )
                self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
                # Pillow's scaling, which the published values are of, where transformers has it beside torch's
                processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
                self._processor = processor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever a damaged folder leads transformers to
            raise NotComputedError(f"CLIPScore cannot load {folder}: {error}. Expected {_FORM}.") from error
        if loaded["missing_keys"]:  # transformers fills them with random numbers
            lacking = sorted(loaded["missing_keys"])
            raise NotComputedError(
                f"CLIPScore cannot use {folder}: its weights lack {lacking[0]} and {len(lacking) - 1} others. Download "
                "model.safetensors of the model that config.json tells of."
            )
        self._model = model.to(self.device).eval()
        self._context = int(model.config.text_config.max_position_embeddings)
        self.weights = _sha256(weights)[:12]
        self.library = f"transformers-{transformers.__version__}"

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[n, D] of captions or references, after the prompt."""
        tokens = self._tokenizer(
            [PROMPT + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self._context,
            return_tensors="pt",
        )
        return self._encode(self._model.get_text_features, dict(tokens))

    def encode_pictures(self, pictures: Sequence[Picture]) -> NDArray[np.float64]:
        """[n, D]; one picture at a time is open in full."""
        import torch

        pixels = [self._processor(images=_open(each), return_tensors="pt")["pixel_values"] for each in pictures]
        return self._encode(self._model.get_image_features, {"pixel_values": torch.cat(pixels)})

    def _encode(self, encoder: Any, inputs: dict[str, "torch.Tensor"]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            told = encoder(**{name: tensor.to(self.device) for name, tensor in inputs.items()})
        features = np.asarray(told.pooler_output.cpu().numpy(), np.float64)
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def _weights_in(folder: Path) -> list[Path]:
    """The weight files of a folder that looks like a CLIP model."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise NotComputedError(f"CLIPScore cannot read {folder / 'config.json'}: {error}. Expected {_FORM}.") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise NotComputedError(f"CLIPScore needs a CLIP model; {folder} holds one of type {kind!r}. Expected {_FORM}.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise NotComputedError(
            f"CLIPScore found no *.safetensors in {folder}: weights in other files are not read, because they can run "
            "code. Download model.safetensors of the same model, or convert them."
        )
    return weights


def _sha256(paths: Sequence[Path]) -> str:
    """Of one file its own, of several that of all one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bar and no report while weights are loaded."""
    logging = transformers.utils.logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
