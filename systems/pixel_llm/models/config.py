"""What defines a model's shape: one frozen record, checked as a whole, saved as `config.json`. No torch is loaded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from systems.pixel_llm.errors import ConfigError, nearest_name_hint
from systems.pixel_llm.settings import Accepts, Share, check_settings

__all__ = ["PRESETS", "PixelLLMConfig"]

# Above any real model: a slip of the keyboard or a hostile config.json should not ask for all the memory there is.
LARGEST_SIZE = 2**16
LARGEST_VOCABULARY = 2**24
LARGEST_MLP_RATIO = 64
SMALLEST_VOCABULARY = 259
"""One token a byte, and three marks."""

Size = Annotated[int, Accepts(at_least=1, at_most=LARGEST_SIZE)]


@dataclass(frozen=True, kw_only=True)
class PixelLLMConfig:
    """Sizes of the vision encoder and the text decoder.

    Raises:
        ConfigError: a value is out of range or two values clash; the message names every setting involved.
    """

    image_size: Annotated[
        int | tuple[int, int],
        Accepts(at_least=1, at_most=LARGEST_SIZE, form="one whole number, or two, (height, width), each"),
    ] = 224
    """Side of the square picture in pixels, or (height, width)."""
    patch_size: Size = 16
    """Side of the square of pixels that becomes one image token."""
    stem: Literal["patch", "conv"] = "patch"
    """How pixels become image tokens: one linear map a patch, or a stack of strided convolutions to the same grid,
    which learns faster from little data."""
    vision_embed_dim: Size = 512
    """Width of the vision encoder."""
    vision_num_layers: Size = 6
    """Transformer blocks of the vision encoder."""
    vision_num_heads: Size | None = None
    """Attention heads of the vision encoder; left out: vision_embed_dim // 64, at least 1."""
    text_embed_dim: Size | None = None
    """Width of the text decoder; left out: vision_embed_dim."""
    text_num_layers: Size = 6
    """Transformer blocks of the text decoder, each with cross-attention to the image tokens."""
    text_num_heads: Size | None = None
    """Attention heads of the text decoder; left out: text_embed_dim // 64, at least 1."""
    mlp_ratio: Annotated[float, Accepts(above=0, at_most=LARGEST_MLP_RATIO)] = 4.0
    """Width of the blocks' MLPs, as a multiple of theirs."""
    vocab_size: Annotated[int, Accepts(at_least=SMALLEST_VOCABULARY, at_most=LARGEST_VOCABULARY)] = 50_000
    """The most tokens that the tokenizer may learn; the table shrinks to what the captions need."""
    max_seq_len: Annotated[int, Accepts(at_least=2, at_most=LARGEST_SIZE)] = 128
    """Most tokens of a caption, its end mark included."""
    dropout: Share = 0.1
    """Share of values dropped in training, after each attention and MLP and after the embeddings."""
    stochastic_depth: Share = 0.0
    """Chance that a picture or caption passes by an attention or MLP of the last block in training; less in earlier
    blocks, in proportion to their depth. Something for models of many blocks."""

    def __post_init__(self) -> None:
        if isinstance(self.image_size, Sequence):  # JSON and TOML give lists
            object.__setattr__(self, "image_size", tuple(self.image_size))
        check_settings(self)
        self._check_clashes()

    def _check_clashes(self) -> None:
        if any(side % self.patch_size for side in self.image_height_width):
            below = [side // self.patch_size * self.patch_size for side in self.image_height_width]
            nearest = " x ".join(str(max(side, self.patch_size)) for side in below)
            raise ConfigError(
                f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}. "
                f"The nearest size below that fits is {nearest}."
            )
        if self.stem == "conv" and (self.patch_size < 2 or self.patch_size & (self.patch_size - 1)):
            raise ConfigError(
                f"stem='conv' halves the picture step by step, so patch_size must be a power of two, not "
                f"patch_size={self.patch_size}. Use 8, 16 or 32, or stem='patch'."
            )
        for width_name, width, heads_name, heads in (
            ("vision_embed_dim", self.vision_embed_dim, "vision_num_heads", self.vision_heads),
            ("text_embed_dim", self.text_width, "text_num_heads", self.text_heads),
        ):
            if width % heads:
                raise ConfigError(f"{width_name}={width} is not a multiple of {heads_name}={heads}.")
            if width * self.mlp_ratio < 1:
                raise ConfigError(f"mlp_ratio={self.mlp_ratio} leaves nothing of {width_name}={width}. Use 2 to 4.")

    @property
    def image_height_width(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        height, width = self.image_height_width
        return height // self.patch_size, width // self.patch_size

    @property
    def vision_heads(self) -> int:
        """Attention heads of the vision encoder, the default filled in."""
        return self.vision_num_heads or max(1, self.vision_embed_dim // 64)

    @property
    def text_width(self) -> int:
        """Width of the text decoder, the default filled in."""
        return self.text_embed_dim or self.vision_embed_dim

    @property
    def text_heads(self) -> int:
        """Attention heads of the text decoder, the default filled in."""
        return self.text_num_heads or max(1, self.text_width // 64)

    def to_dict(self) -> dict[str, Any]:
        """For `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "PixelLLMConfig":
        """From names and values.

        Raises:
            ConfigError: a name is unknown (the message names the nearest), or a value does not fit.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"Unknown model setting {name!r}. {nearest_name_hint(name, known)}")
        return cls(**settings)


PRESETS: dict[str, dict[str, Any]] = {
    # About 3M, 20M and 90M parameters, with the vocabulary that some thousand captions need.
    "tiny": {
        "image_size": 64, "patch_size": 16, "stem": "conv",
        "vision_embed_dim": 192, "vision_num_layers": 3, "text_num_layers": 2, "vocab_size": 4_000,
    },
    "small": {
        "image_size": 128, "patch_size": 16, "stem": "conv",
        "vision_embed_dim": 384, "vision_num_layers": 5, "text_num_layers": 4, "vocab_size": 8_000,
    },
    "base": {
        "image_size": 224, "patch_size": 16, "stem": "conv",
        "vision_embed_dim": 768, "vision_num_layers": 6, "text_num_layers": 4, "vocab_size": 16_000,
    },
}  # fmt: skip
