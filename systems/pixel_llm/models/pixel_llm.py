"""PixelLLM: pictures and captions in, logits out; pictures in, captions out.

`forward` is `decode(encode_images(images))`: pictures are encoded once, decoding may happen many times. Captions are
given as strings, or as ids where a trainer has encoded them already. The model owns its tokenizer and the record of how
its pictures were prepared, so that its folder is all that is needed to caption.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.folder_reader import FolderReader, open_folder
from systems.pixel_llm.folder_writer import FolderSink
from systems.pixel_llm.models import pretrained
from systems.pixel_llm.models.block_runs import compiled_run, run_block
from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.models.decoder import TextDecoder
from systems.pixel_llm.models.generation import GeneratedCaption, GeneratedIds, generate_ids
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.initialisation import draw_embeddings, initialise
from systems.pixel_llm.models.kv_cache import KVCache
from systems.pixel_llm.models.vision import VisionEncoder
from systems.pixel_llm.preprocessing import Preprocessing
from systems.pixel_llm.tokenizer import CaptionTokenizer, TokenBatch
from systems.pixel_llm.weights_file import load_weights_file, warn_of_left

__all__ = ["PixelLLM"]


class PixelLLM(nn.Module):
    """A vision encoder and a text decoder that looks at its features.

    Attributes:
        config: the sizes, as created; `vocab_size` there is a ceiling.
        tokenizer: plain bytes until `fit_tokenizer`, a checkpoint or the Trainer brings a trained one.
        preprocessing: how pictures become `images`; saved with the weights.
    """

    def __init__(self, config: PixelLLMConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = CaptionTokenizer.bytes()
        self.preprocessing = Preprocessing(image_size=config.image_height_width)
        self._normaliser: tuple[tuple[Preprocessing, torch.device], Tensor, Tensor] | None = None
        self.encoder = VisionEncoder(config)
        self.decoder = TextDecoder(config)
        initialise(self.encoder, self.decoder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.token_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: fp32, unless the model was converted for captioning."""
        return self.decoder.token_embedding.weight.dtype

    @property
    def num_embeddings(self) -> int:
        """V: rows of the embedding table and width of the logits; at least the tokenizer's size."""
        return self.decoder.token_embedding.weight.shape[0]

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether each block is computed a second time in the backward pass rather than kept (off at first).

        Takes far less memory and one more forward pass a step; losses and gradients are the same to the bit. It is a
        matter of training alone and is not saved with the model.
        """
        return self.encoder.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, is_on: bool) -> None:
        self.encoder.gradient_checkpointing = self.decoder.gradient_checkpointing = is_on

    @property
    def has_compiled_blocks(self) -> bool:
        """Whether `compile_blocks` was called."""
        return self.decoder.run_block is not run_block

    def compile_blocks(self, *, backend: str | Callable[..., Any] = "inductor", deterministic: bool = False) -> None:
        """Run the blocks of encoder and decoder by compiled code from now on, wherever gradients are wanted.

        It is compiled when a shape is first met, and kept for the process; the weights and their names stay as they
        are, and captioning is not compiled. See `models/block_runs.py`.

        Args:
            backend: what compiles, as `torch.compile` takes it.
            deterministic: choose no code by timing it, which may choose otherwise the next time.
        """
        self.encoder.run_block = self.decoder.run_block = compiled_run(backend=backend, deterministic=deterministic)

    # --- training -----------------------------------------------------------------------------------------------------

    def encode_captions(self, captions: Sequence[str]) -> TokenBatch:
        """Captions as ids and targets, on the CPU; see `CaptionTokenizer.encode_batch`."""
        return self.tokenizer.encode_batch(captions, max_seq_len=self.config.max_seq_len)

    def targets(self, captions: Sequence[str]) -> Tensor:
        """What `model(images, captions)` should say: ids [B, T] on the model's device, -100 at padding."""
        return self.encode_captions(captions).targets.to(self.device)

    def forward(
        self,
        images: Tensor,
        captions: Sequence[str] | Tensor,
        *,
        positions: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Tensor:
        """Logits of each next token.

        Args:
            images: [B, 3, H, W], normalised as `preprocessing` tells, or uint8, which is normalised here.
            captions: C strings, or their ids [C, T] as in `TokenBatch.input_ids`.
            positions: [N] places in the flattened [C * T] for which logits are wanted; all if left out.
            image_index: [C] int64, the row in `images` of each caption's picture, which is encoded once however many
                captions it has; left out, C is B and each picture has one caption.

        Returns:
            [C, T, V], or [N, V] with `positions`.

        Raises:
            ConfigError: the pictures have another shape or the captions another number than expected.
        """
        if isinstance(captions, Tensor):
            input_ids = captions
        else:
            input_ids = self.encode_captions(captions).input_ids.to(images.device)
        if image_index is None and len(input_ids) != len(images):
            raise ConfigError(
                f"Expected one caption a picture, found {len(images)} pictures, {len(input_ids)} captions. Where "
                "pictures have several, image_index tells which picture each belongs to."
            )
        if image_index is not None and image_index.shape != (len(input_ids),):
            raise ConfigError(
                f"Expected image_index to tell of each of the {len(input_ids)} captions its picture; its shape is "
                f"{list(image_index.shape)}."
            )
        return self.decode(input_ids, self.encode_images(images), positions=positions, image_index=image_index)

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] pixels, normalised floats or uint8 -> image features [B, N, D].

        Raises:
            ConfigError: the pictures have another shape than the model was made for.
        """
        height, width = self.config.image_height_width
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise ConfigError(
                f"This model takes images [B, 3, {height}, {width}], not {list(images.shape)}. Make the data set with "
                f"image_size=({height}, {width}), or the model with image_size of the pictures."
            )
        pixels = self.normalised(images) if images.dtype == torch.uint8 else images
        features: Tensor = self.encoder(pixels.to(self.dtype))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 as `preprocessing` tells, on the device where they are."""
        wanted = (self.preprocessing, images.device)
        if self._normaliser is None or self._normaliser[0] != wanted:
            # Kept, since a small tensor made anew at each step would make a GPU wait.
            mean, std = (
                torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in (wanted[0].mean, wanted[0].std)
            )
            scale, shift = 1 / (255 * std), -mean / std
            self._normaliser = wanted, scale.float().to(images.device), shift.float().to(images.device)
        _, scale, shift = self._normaliser
        return images.float().mul_(scale).add_(shift)

    def decode(
        self,
        input_ids: Tensor,
        image_features: Tensor,
        *,
        positions: Tensor | None = None,
        image_index: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits [C, T, V] ([N, V] with `positions`) of the next tokens after `input_ids` [C, T].

        `image_index` [C] tells of each caption the row of its picture in `image_features`; left out, they are as many.
        With a `cache` (see `make_cache`), `input_ids` are the tokens after those it holds, and it is extended; what it
        knows of the pictures takes the place of `image_features` and `image_index`.

        Raises:
            ConfigError: there are more tokens than `config.max_seq_len`.
        """
        length = input_ids.shape[1] + (0 if cache is None else cache.length)
        if length > self.config.max_seq_len:
            raise ConfigError(
                f"Found captions of {length} tokens; this model was made with max_seq_len={self.config.max_seq_len}. "
                "Cut them, or make the model with a larger one."
            )
        keys_values = self.decoder.look_at(image_features, image_index) if cache is None else cache.cross_keys_values
        logits: Tensor = self.decoder(input_ids, keys_values, positions=positions, cache=cache)
        return logits

    def make_cache(self, image_features: Tensor, *, max_length: int | None = None) -> KVCache:
        """An empty cache for captions of the pictures with these features, of at most `max_length` tokens."""
        # Laid out once, so that no generated token gathers them again.
        keys_values = [(key.contiguous(), value.contiguous()) for key, value in self.decoder.look_at(image_features)]
        return KVCache(keys_values, max_length=self.config.max_seq_len if max_length is None else max_length)

    def fit_tokenizer(self, captions: Sequence[str]) -> None:
        """Train the tokenizer on `captions`, with `config.vocab_size` as the ceiling, and shrink the embedding table.

        The table keeps as many rows as the tokenizer needs, rounded up to a multiple of 64 (matrix products like it).
        It stays the same `Parameter`, whose gradient is cut too; an optimizer's own state is the caller's to cut.
        """
        self.tokenizer = CaptionTokenizer.train(captions, vocab_size=self.config.vocab_size)
        rows = min(self.config.vocab_size, -(-self.tokenizer.vocab_size // 64) * 64)
        weight = self.decoder.token_embedding.weight
        # After an earlier fit the table may be smaller than now needed: then all of it is drawn anew.
        if rows > weight.shape[0]:
            self.resize_embeddings(rows)
            draw_embeddings(weight)
        else:
            self.resize_embeddings(rows)

    @torch.no_grad()
    def resize_embeddings(self, rows: int) -> None:
        """Give the embedding table `rows` rows, in place: the first ones are kept, new ones are zero."""
        embedding = self.decoder.token_embedding
        weight = embedding.weight
        kept = weight[:rows]
        gradient = None if weight.grad is None else weight.grad[:rows].clone()
        weight.grad = None  # torch refuses a new shape beside a gradient of the old one
        resized = torch.cat([kept, kept.new_zeros(rows - len(kept), kept.shape[1])])
        # While a result of an earlier forward is still held, autograd keeps the node that gathers this parameter's
        # gradient, with the old shape in it, and would use it again. It forgets that node when the dtype changes.
        weight.data = torch.empty(0, dtype=torch.float64, device=weight.device)
        weight.data = resized
        embedding.num_embeddings = rows
        if gradient is not None and len(gradient) == rows:
            weight.grad = gradient

    # --- captioning ---------------------------------------------------------------------------------------------------

    def generate(
        self,
        images: Tensor,
        *,
        generator: torch.Generator | None = None,
        options: GenerationOptions | None = None,
        **settings: Any,
    ) -> list[str]:
        """Caption pictures.

        Args:
            images: [B, 3, H, W], normalised as `preprocessing` tells, or uint8; moved to the model's device.
            generator: source of the draws, on the model's device; torch's global one if left out.
            options: a `GenerationOptions`; single settings may be given by name instead or on top.
            **settings: the fields of `GenerationOptions`: `max_length`, `num_beams`, `do_sample`, `temperature`,
                `num_return_sequences`, `prefix` and so on. Without any: the likeliest token each time.

        Returns:
            B captions; with `num_return_sequences` above 1 so many times B, picture by picture.

        Raises:
            ConfigError: a setting is unknown, out of range or does not fit this model, or the pictures have another
                shape than expected.
        """
        scored = self.generate_scored(images, generator=generator, options=options, **settings)
        return [caption.text for captions in scored for caption in captions]

    @torch.no_grad()
    def generate_scored(
        self,
        images: Tensor,
        *,
        generator: torch.Generator | None = None,
        options: GenerationOptions | None = None,
        **settings: Any,
    ) -> list[list[GeneratedCaption]]:
        """As `generate`, with the log-probability of each caption.

        Returns:
            Of each of the B pictures its `num_return_sequences` captions, the best first. Where a search finds fewer
            (the settings may leave few things to say), empty ones of log-probability minus infinity fill the places.
        """
        options = (options or GenerationOptions()).replaced(**settings)
        # Each module's own mode: a frozen encoder may be in eval mode within a model that trains.
        training_modules = [module for module in self.modules() if module.training]
        self.eval()
        try:
            features = self.encode_images(images.to(self.device))
            generated = generate_ids(self, features, options, generator=generator)
        finally:
            for module in training_modules:
                module.training = True
        return self._read(generated)

    def _read(self, generated: GeneratedIds) -> list[list[GeneratedCaption]]:
        eos_id, read = self.tokenizer.eos_id, []
        for rows, log_probabilities in zip(generated.ids.tolist(), generated.log_probability.tolist(), strict=True):
            captions = []
            for row, log_probability in zip(rows, log_probabilities, strict=True):
                end = row.index(eos_id) + 1 if eos_id in row else len(row)
                num_tokens = 0 if log_probability == -math.inf else end - generated.prefix_length
                text = self.tokenizer.decode(row[:end]).strip()
                captions.append(GeneratedCaption(text, log_probability, num_tokens))
            read.append(captions)
        return read

    # --- disk ---------------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config, weights, tokenizer and preprocessing into `folder`; see `models/pretrained.py`.

        Args:
            folder: made if need be.
            dtype: of the weights in the file, such as torch.bfloat16, for half the size. A model that is loaded from
                it computes in float32 again. Left out: as they are.
        """
        pretrained.save(self, Path(folder), dtype=dtype)

    def write_files(self, writer: FolderSink) -> None:
        """Write the same files through `writer`, which knows their digests afterwards."""
        pretrained.write_files(self, writer)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> "PixelLLM":
        """The model saved in `folder`, on `device`, in eval mode.

        Raises:
            CheckpointError: the folder is missing, incomplete or damaged.
        """
        return pretrained.load(cls, Path(folder), device=torch.device(device))

    def load_weights(
        self, folder: str | Path, *, device: torch.device | str | None = None, strict: bool = True
    ) -> dict[str, str]:
        """Take weights, tokenizer and preprocessing from `folder`, saved by a model of the same sizes.

        The embedding table is resized in place to the saved one. Nothing changes if anything does not fit.

        Args:
            folder: a folder that `save_pretrained` wrote. Of a file in it, `model.safetensors`, the weights alone are
                taken, as by `load_weights_file`.
            device: where tensors are read; the model stays where it is.
            strict: False takes what fits, and a warning lists what was left.

        Returns:
            What was left: name of a tensor or file -> why. Nothing is left where `strict`.

        Raises:
            CheckpointError: the folder is incomplete or damaged, or its model has other sizes.
        """
        folder = Path(folder)
        if folder.is_file():
            return load_weights_file(self, folder, device=device, strict=strict)
        left = self.read_files(open_folder(folder), device=device, strict=strict)
        warn_of_left(left, folder)
        return left

    def read_files(
        self, reader: FolderReader, *, device: torch.device | str | None = None, strict: bool = True
    ) -> dict[str, str]:
        """As `load_weights`, from a folder that is being read, and without a warning."""
        return pretrained.load_into(self, reader, device=device, strict=strict)
