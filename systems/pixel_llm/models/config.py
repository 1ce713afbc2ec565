"""What defines a model's shape: one frozen record, checked as a whole, saved as `config.json`. No torch is loaded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from systems.pixel_llm.errors import ConfigError, nearest_name_hint

__all__ = ["PRESETS", "PixelLLMConfig"]

# Above any real model: a slip of the keyboard or a hostile config.json should not ask for all the memory there is.
LARGEST_SIZE = 2**16
LARGEST_VOCABULARY = 2**24
LARGEST_MLP_RATIO = 64


@dataclass(frozen=True, kw_only=True)
class PixelLLMConfig:
    """Sizes of the vision encoder and the text decoder.

    Raises:
        ConfigError: a value is out of range or two values clash; the message names every setting involved.
    """

    image_size: int | tuple[int, int] = 224
    """Side of the square picture in pixels, or (height, width)."""
    patch_size: int = 16
    """Side of the square of pixels that becomes one image token."""
    stem: Literal["patch", "conv"] = "patch"
    """How pixels become image tokens: one linear map a patch, or a stack of strided convolutions to the same grid,
    which learns faster from little data."""
    vision_embed_dim: int = 512
    """Width of the vision encoder."""
    vision_num_layers: int = 6
    """Transformer blocks of the vision encoder."""
    vision_num_heads: int | None = None
    """Attention heads of the vision encoder; left out: vision_embed_dim // 64, at least 1."""
    text_embed_dim: int | None = None
    """Width of the text decoder; left out: vision_embed_dim."""
    text_num_layers: int = 6
    """Transformer blocks of the text decoder, each with cross-attention to the image tokens."""
    text_num_heads: int | None = None
    """Attention heads of the text decoder; left out: text_embed_dim // 64, at least 1."""
    mlp_ratio: float = 4.0
    """Width of the blocks' MLPs, as a multiple of theirs."""
    vocab_size: int = 50_000
    """The most tokens that the tokenizer may learn; the table shrinks to what the captions need."""
    max_seq_len: int = 128
    """Most tokens of a caption, its end mark included."""
    dropout: float = 0.1
    """Share of values dropped in training, after each attention and MLP and after the embeddings."""
    stochastic_depth: float = 0.0
    """Chance that a picture or caption passes by an attention or MLP of the last block in training; less in earlier
    blocks, in proportion to their depth. Something for models of many blocks."""

    def __post_init__(self) -> None:
        if isinstance(self.image_size, Sequence):  # JSON and TOML give lists
            object.__setattr__(self, "image_size", tuple(self.image_size))
        sides = self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)
        if len(sides) != 2:
            raise ConfigError(f"image_size must be one number or (height, width), not {self.image_size}.")
        for side in sides:
            _check_whole("image_size", side)
        for name in ("patch_size", "vision_embed_dim", "vision_num_layers", "text_num_layers", "max_seq_len"):
            _check_whole(name, getattr(self, name), at_least=2 if name == "max_seq_len" else 1)
        for name in ("text_embed_dim", "vision_num_heads", "text_num_heads"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name))
        _check_whole("vocab_size", self.vocab_size, at_least=259, at_most=LARGEST_VOCABULARY)
        for name in ("dropout", "stochastic_depth"):
            share = getattr(self, name)
            if not (_is_number(share) and 0 <= share < 1):
                raise ConfigError(f"{name} must be a number, at least 0 and below 1, not {share!r}.")
        if not (_is_number(self.mlp_ratio) and 0 < self.mlp_ratio <= LARGEST_MLP_RATIO):
            raise ConfigError(
                f"mlp_ratio must be a number above 0, at most {LARGEST_MLP_RATIO}, not {self.mlp_ratio!r}."
            )
        if self.stem not in ("patch", "conv"):
            raise ConfigError(f"stem must be 'patch' or 'conv', not {self.stem!r}.")
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


def _check_whole(name: str, value: Any, *, at_least: int = 1, at_most: int = LARGEST_SIZE) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
        raise ConfigError(f"{name} must be a whole number, at least {at_least}, at most {at_most}, not {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
