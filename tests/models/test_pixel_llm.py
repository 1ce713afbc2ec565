"""The model as a whole: strings and ids, shapes and their errors, the start of training, fitting the tokenizer."""

import math
import random
import string

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.tokenizer import IGNORE_INDEX

CAPTIONS = ["a red square", "a blue circle on a white background", "🦊"]
# max_seq_len is 16 bytes of the unfitted tokenizer: the second one is cut.
SHORT = ["a red", "a blue circle", ""]


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(3))


# --- forward ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_forward_is_decode_of_encode_images(tiny_model, images):
    model = tiny_model()
    input_ids = model.encode_captions(SHORT).input_ids
    logits = model(images, SHORT)
    assert logits.shape == (3, 14, 320)
    assert torch.equal(logits, model.decode(input_ids, model.encode_images(images)))
    assert model.encode_images(images).shape == (3, 6, 32)


@torch.no_grad()
def test_strings_and_ids_agree(tiny_model, images):
    model = tiny_model()
    assert torch.equal(model(images, SHORT), model(images, model.encode_captions(SHORT).input_ids))


@torch.no_grad()
def test_positions_are_the_places_with_targets(tiny_model, images):
    model = tiny_model()
    batch = model.encode_captions(SHORT)
    expected = model(images, SHORT)[batch.targets != IGNORE_INDEX]
    picked = model(images, batch.input_ids, positions=batch.supervised)
    torch.testing.assert_close(picked, expected, atol=1e-5, rtol=1e-5)


def test_targets_match_the_logits(tiny_model, images):
    model = tiny_model()
    targets = model.targets(CAPTIONS)
    assert targets.shape == model(images, CAPTIONS).shape[:2]
    assert model.tokenizer.decode(targets[0].tolist()) == "a red square"
    assert model.tokenizer.decode(targets[1].tolist()) == "a blue circle o"
    assert targets[1, -1] == model.tokenizer.eos_id


@torch.no_grad()
def test_a_longer_neighbour_changes_nothing(tiny_model, images):
    model = tiny_model()
    together = model(images, SHORT)
    for row, caption in enumerate(SHORT):
        alone = model(images[row : row + 1], [caption])
        torch.testing.assert_close(together[row : row + 1, : alone.shape[1]], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_the_picture_matters(tiny_model, images, stem):
    model = tiny_model(stem=stem)
    assert float((model(images, SHORT) - model(images.flip(3), SHORT)).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("shape", "found"),
    [((3, 3, 24, 16), r"\[3, 3, 24, 16\]"), ((3, 1, 16, 24), r"\[3, 1, 16, 24\]"), ((3, 16, 24), r"\[3, 16, 24\]")],
)
def test_other_pictures_are_refused(tiny_model, shape, found):
    model = tiny_model()
    for call in (lambda images: model(images, ["a"] * 3), model.generate, model.encode_images):
        with pytest.raises(ConfigError, match=rf"\[B, 3, 16, 24\], not {found}.*image_size=\(16, 24\)"):
            call(torch.zeros(shape))


@pytest.mark.parametrize("captions", [["a", "b"], ["a"] * 4, torch.ones(2, 5, dtype=torch.long)])
def test_one_caption_a_picture_is_wanted(tiny_model, images, captions):
    with pytest.raises(ConfigError, match=f"found 3 pictures, {len(captions)} captions"):
        tiny_model()(images, captions)


@torch.no_grad()
def test_ids_beyond_max_seq_len_are_refused(tiny_model, images):
    model = tiny_model()
    with pytest.raises(ConfigError, match=r"17 .*max_seq_len=16"):
        model(images, torch.ones(3, 17, dtype=torch.long))
    features = model.encode_images(images)
    cache = model.make_cache(features)
    model.decode(torch.ones(3, 16, dtype=torch.long), features, cache=cache)
    with pytest.raises(ConfigError, match=r"17 .*max_seq_len=16"):
        model.decode(torch.ones(3, 1, dtype=torch.long), features, cache=cache)


# --- the start of training --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_fresh_model_does_not_look_at_the_picture_yet(tiny_model, images):
    model = tiny_model(is_random=False)
    assert torch.equal(model(images, SHORT), model(images.flip(0) * 3, SHORT))


def test_the_encoder_learns_after_one_step(tiny_model, images):
    model = tiny_model(is_random=False, dropout=0.0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    sizes = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images, SHORT).flatten(0, 1), model.targets(SHORT).flatten())
        loss.backward()
        sizes.append({name: float(each.grad.norm()) for name, each in model.named_parameters()})
        optimizer.step()
    first, second = sizes
    # The branch that starts at zero lets nothing through at first, but learns itself.
    assert all(size == 0 for name, size in first.items() if name.startswith("encoder."))
    assert all(first[f"decoder.blocks.{layer}.cross_attention.out.weight"] > 0 for layer in (0, 1))
    assert [name for name, size in second.items() if size == 0] == []


def test_a_fresh_model_finds_all_tokens_about_as_likely(tiny_model, images):
    model = tiny_model(is_random=False)
    loss = F.cross_entropy(model(images, SHORT).flatten(0, 1), model.targets(SHORT).flatten())
    # Logits of size 1 cost half a nat on top of the logarithm.
    assert abs(loss.item() - math.log(320) - 0.5) < 0.3


def test_the_same_seed_makes_the_same_model(tiny_model):
    one, other = tiny_model().state_dict(), tiny_model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_output_layer_is_the_embedding_table(tiny_model):
    model = tiny_model()
    tables = [name for name, each in model.named_parameters() if each.shape[0] == model.num_embeddings]
    assert tables == ["decoder.token_embedding.weight"]
    assert tables[0] in model.state_dict()


# --- fitting the tokenizer --------------------------------------------------------------------------------------------


def test_an_unfitted_model_works_with_plain_bytes(tiny_model, images):
    model = tiny_model()
    assert not model.tokenizer.is_fitted
    assert model.num_embeddings == 320
    assert model.targets(["🦊"]).shape == (1, 5)
    assert len(model.generate(images)) == 3


def test_fitting_keeps_the_parameter_and_its_first_rows(tiny_model, images):
    model = tiny_model(vocab_size=2000)
    weight = model.decoder.token_embedding.weight
    before = weight.detach().clone()
    model(images, SHORT).sum().backward()
    gradient = weight.grad.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.fit_tokenizer(CAPTIONS * 3)

    rows = -(-model.tokenizer.vocab_size // 64) * 64
    assert model.tokenizer.is_fitted
    assert model.num_embeddings == rows == len(weight) < 2000
    assert model.decoder.token_embedding.num_embeddings == rows
    assert model.decoder.token_embedding.weight is weight
    assert any(each is weight for each in optimizer.param_groups[0]["params"])
    assert torch.equal(weight, before[:rows])
    assert torch.equal(weight.grad, gradient[:rows])
    # The memory of the rows that went is free again.
    assert weight.untyped_storage().nbytes() == weight.numel() * 4
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before[:rows] - 0.1 * gradient[:rows])
    assert model(images, CAPTIONS).shape[-1] == rows


def test_the_ceiling_holds_even_where_it_is_no_multiple_of_64(tiny_model):
    model = tiny_model(vocab_size=270)
    model.fit_tokenizer(CAPTIONS * 3)
    assert model.tokenizer.vocab_size == model.num_embeddings == 270


def test_fitting_again_may_need_more_rows(tiny_model, images):
    model = tiny_model(vocab_size=2000)
    weight = model.decoder.token_embedding.weight
    model.fit_tokenizer(["a"])
    assert model.num_embeddings == 320
    model(images, SHORT).sum().backward()
    generator = random.Random(0)
    words = ["".join(generator.choices(string.ascii_lowercase, k=8)) for _ in range(20)]
    model.fit_tokenizer(words * 2)
    assert model.num_embeddings > 320
    assert model.decoder.token_embedding.weight is weight
    assert weight.grad is None  # that of the smaller table fits no longer
    assert float(weight.detach().norm(dim=1).min()) > 0  # no row is left at zero
    assert len(model.generate(images)) == 3


def test_resizing_keeps_what_there_is(tiny_model):
    model = tiny_model()
    before = model.decoder.token_embedding.weight.detach().clone()
    model.resize_embeddings(400)
    weight = model.decoder.token_embedding.weight
    assert torch.equal(weight[:320], before)
    assert float(weight.detach()[320:].abs().max()) == 0
    model.resize_embeddings(320)
    assert torch.equal(weight, before)


def test_a_model_on_another_precision_trains(tiny_model, images):
    model = tiny_model()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(images, SHORT).flatten(0, 1).float(), model.targets(SHORT).flatten())
    loss.backward()
    exact = F.cross_entropy(model(images, SHORT).flatten(0, 1), model.targets(SHORT).flatten())
    assert abs(loss.item() - exact.item()) < 0.05 * exact.item()


def test_what_is_stated_is_what_is_there(tiny_model):
    model = tiny_model()
    assert isinstance(model, PixelLLM)
    assert model.device == torch.device("cpu")
    assert model.preprocessing.image_size == (16, 24)


def test_the_tokenizer_can_be_fitted_while_results_of_an_earlier_forward_are_held() -> None:
    model = create_pixel_llm(
        image_size=16, patch_size=16, vision_embed_dim=16, vision_num_layers=1, text_num_layers=1, vocab_size=1000
    )
    images, captions = torch.randn(2, 3, 16, 16), ["a red square", "a blue circle"]
    held = model(images, captions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        held_too = model(images, captions)
    model.fit_tokenizer(captions * 3)
    model(images, captions).sum().backward()
    weight = model.decoder.token_embedding.weight
    assert weight.grad is not None
    assert weight.grad.shape == weight.shape == (model.num_embeddings, 16)
    assert held.shape[-1] == held_too.shape[-1] == 1000


# --- each size does something -----------------------------------------------------------------------------------------


def test_sizes_show_in_the_shapes_of_the_weights(tiny_model):
    shapes = {name: tuple(weight.shape) for name, weight in tiny_model().named_parameters()}
    for settings in (
        {"patch_size": 4}, {"image_size": (16, 16)}, {"stem": "conv"}, {"vision_embed_dim": 64},
        {"vision_num_layers": 1}, {"text_embed_dim": 48}, {"text_num_layers": 3}, {"mlp_ratio": 2.0},
        {"vocab_size": 300}, {"max_seq_len": 8},
    ):  # fmt: skip
        others = {name: tuple(weight.shape) for name, weight in tiny_model(**settings).named_parameters()}
        assert others != shapes, settings
    wide = tiny_model(mlp_ratio=2.0).encoder.blocks[0].mlp.up.weight
    assert tuple(wide.shape) == (64, 32)


@pytest.mark.parametrize("heads", [{"vision_num_heads": 2}, {"text_num_heads": 6}])
def test_heads_divide_the_same_weights_otherwise(tiny_model, heads):
    model, other = tiny_model(), tiny_model(**heads)
    other.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model(images, ["a cat"]), other(images, ["a cat"]))
