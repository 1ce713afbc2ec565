"""Several captions of one picture: the picture is encoded once, and the answer is that of pairs of their own."""

import pytest
import torch
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError

CAPTIONS = ["a red", "a blue circle", "two", "", "a green"]
INDEX = torch.tensor([2, 0, 0, 2, 1])


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def loss(model, images, captions, image_index=None):
    tokens = model.encode_captions(captions)
    logits = model(images, tokens.input_ids, positions=tokens.supervised, image_index=image_index)
    return F.cross_entropy(logits, tokens.targets.flatten()[tokens.supervised])


def gradients(model, *arguments):
    model.zero_grad()
    loss(model, *arguments).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_loss_and_gradients_are_those_of_pairs(tiny_model, images, stem):
    model = tiny_model(stem=stem).double()
    once, pairs = (images, CAPTIONS, INDEX), (images[INDEX], CAPTIONS)
    torch.testing.assert_close(loss(model, *once), loss(model, *pairs), rtol=1e-12, atol=0)
    expected = gradients(model, *pairs)
    for name, gradient in gradients(model, *once).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-13, msg=name)
    assert all(gradient.abs().max() > 0 for gradient in expected.values())


@torch.no_grad()
def test_strings_ids_and_all_positions(tiny_model, images):
    model = tiny_model().double()
    expected = model(images[INDEX], CAPTIONS)
    torch.testing.assert_close(model(images, CAPTIONS, image_index=INDEX), expected)
    input_ids = model.encode_captions(CAPTIONS).input_ids
    torch.testing.assert_close(model(images, input_ids, image_index=INDEX), expected)
    torch.testing.assert_close(model.decode(input_ids, model.encode_images(images), image_index=INDEX), expected)


@torch.no_grad()
def test_the_encoder_and_the_picture_s_keys_and_values_run_once_a_picture(tiny_model, images):
    model, rows = tiny_model().double(), []
    for module in (model.encoder, model.decoder.cross_keys_values):
        module.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    model(images, CAPTIONS, image_index=INDEX)
    assert rows == [3, 3]


@torch.no_grad()
def test_a_picture_may_have_no_caption(tiny_model, images):
    model = tiny_model().double()
    logits = model(images, ["a red"], image_index=torch.tensor([1]))
    torch.testing.assert_close(logits, model(images[1:2], ["a red"]))


def test_a_number_of_captions_that_does_not_fit_is_told(tiny_model, images):
    model = tiny_model().double()
    with pytest.raises(ConfigError, match=r"found 3 pictures, 5 captions.*image_index tells which picture"):
        model(images, CAPTIONS)
    with pytest.raises(ConfigError, match=r"each of the 5 captions its picture; its shape is \[4\]"):
        model(images, CAPTIONS, image_index=INDEX[:4])
