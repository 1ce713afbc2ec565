"""How many floating-point operations a model needs for a batch, by formula from its sizes.

Counted are the products of matrices and the convolutions, a multiplication and an addition each as two operations, as
in Chowdhery et al. 2022 ("PaLM", appendix B). All else (norms, softmax, GELU, embeddings) is small beside them. Padding
and what gradient checkpointing computes a second time are not counted: the model does not need them.
"""

from systems.pixel_llm.models.config import PixelLLMConfig
from systems.pixel_llm.models.vision import conv_stem_widths

__all__ = ["forward_flops", "training_flops"]


def training_flops(config: PixelLLMConfig, *, num_images: int, num_captions: int, num_tokens: int, vocab: int) -> float:
    """Of a forward and a backward pass: three times those of the forward pass.

    The backward pass has two products for each of the forward pass: the gradient of its input and that of its weights.
    (The very first layer needs no gradient of its input; that is passed over.) Arguments as of `forward_flops`.
    """
    of_images, of_captions = forward_flops(
        config, num_images=num_images, num_captions=num_captions, num_tokens=num_tokens, vocab=vocab
    )
    return 3 * (of_images + of_captions)


def forward_flops(
    config: PixelLLMConfig, *, num_images: int, num_captions: int, num_tokens: int, vocab: int
) -> tuple[float, float]:
    """Operations of the forward pass, those on pictures and those on captions.

    Args:
        config: the sizes of the model.
        num_images: B pictures, each encoded once however many captions it has.
        num_captions: C.
        num_tokens: of all captions together, without padding. Captions count as equally long, each token as looking at
            a whole caption: attention is a small part, and so it is in the paper.
        vocab: V, the rows of the embedding table, which is the output layer too.

    Returns:
        Encoder and the decoder's keys and values of the pictures; all else of the decoder.
    """
    rows, columns = config.grid
    patches, width, layers = rows * columns, config.vision_embed_dim, config.vision_num_layers
    text_width, text_layers = config.text_width, config.text_num_layers
    of_image = (
        _stem_flops(config)
        + layers * patches * _block_flops(width, config.mlp_ratio, num_keys=patches)
        + 2 * patches * width * text_layers * 2 * text_width  # the decoder's keys and values of the picture
    )
    length = num_tokens / max(num_captions, 1)
    # Query and output of the cross-attention, and its two products with what all patches offer.
    look = 4 * text_width**2 + 4 * patches * text_width
    of_token = text_layers * (_block_flops(text_width, config.mlp_ratio, num_keys=length) + look)
    of_token += 2 * text_width * vocab
    return float(num_images * of_image), float(num_tokens * of_token)


def _block_flops(width: int, mlp_ratio: float, *, num_keys: float) -> float:
    """Of one position in self-attention and MLP: four maps of width x width, two products with the keys, two maps."""
    return 8 * width**2 + 4 * num_keys * width + 4 * width * int(width * mlp_ratio)


def _stem_flops(config: PixelLLMConfig) -> float:
    """Of one picture on its way to image tokens; the channels are those of `vision.ConvStem`."""
    height, width = config.image_height_width
    patches = config.grid[0] * config.grid[1]
    if config.stem == "patch":
        return 2 * patches * 3 * config.patch_size**2 * config.vision_embed_dim
    flops, channels = 0.0, 3
    for wider in conv_stem_widths(config.patch_size, config.vision_embed_dim):
        height, width = -(-height // 2), -(-width // 2)
        flops += 2 * height * width * 9 * channels * wider
        channels = wider
    return flops + 2 * patches * channels * config.vision_embed_dim
