"""CaptionLoss: the mean surprise over the positions that have a target, however the batch is laid out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.tokenizer import IGNORE_INDEX, CaptionTokenizer
from systems.pixel_llm.training import CaptionLoss
from systems.pixel_llm.training.loss import loss_of_training, share_of_step


def random_batch(lengths: list[int], *, num_positions: int, vocab_size: int = 7) -> tuple[Tensor, Tensor]:
    """Logits [B, T, V] and targets [B, T] of captions of these lengths, padded to T."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(lengths), num_positions, vocab_size, generator=generator)
    targets = torch.full((len(lengths), num_positions), IGNORE_INDEX)
    for row, length in enumerate(lengths):
        targets[row, :length] = torch.randint(vocab_size, (length,), generator=generator)
    return logits, targets


def plain_loop(logits: Tensor, targets: Tensor) -> float:
    surprises = []
    for caption_logits, caption_targets in zip(logits.tolist(), targets.tolist(), strict=True):
        for scores, target in zip(caption_logits, caption_targets, strict=True):
            if target != IGNORE_INDEX:
                surprises.append(math.log(sum(math.exp(score) for score in scores)) - scores[target])
    return sum(surprises) / len(surprises)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_it_is_the_plain_mean_over_next_tokens(lengths: list[int]) -> None:
    logits, targets = random_batch(lengths, num_positions=6)
    assert CaptionLoss()(logits, targets).item() == pytest.approx(plain_loop(logits, targets), rel=1e-5)


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), extra=st.integers(1, 5))
def test_padding_changes_neither_loss_nor_gradient(lengths: list[int], extra: int) -> None:
    logits, targets = random_batch(lengths, num_positions=5)
    logits.requires_grad_()
    padded_logits = F.pad(logits.detach(), (0, 0, 0, extra), value=50.0).requires_grad_()
    padded_targets = F.pad(targets, (0, extra), value=IGNORE_INDEX)
    loss, padded_loss = CaptionLoss()(logits, targets), CaptionLoss()(padded_logits, padded_targets)
    assert padded_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    loss.backward()
    padded_loss.backward()
    assert logits.grad is not None
    assert padded_logits.grad is not None
    assert torch.allclose(padded_logits.grad[:, :5], logits.grad, atol=1e-7)
    assert (padded_logits.grad[:, 5:] == 0).all()


def test_flat_and_batched_layouts_agree() -> None:
    logits, targets = random_batch([3, 5, 1], num_positions=5)
    supervised = targets.flatten() != IGNORE_INDEX
    flat = CaptionLoss()(logits.flatten(0, 1)[supervised], targets.flatten()[supervised])
    assert flat.item() == pytest.approx(CaptionLoss()(logits, targets).item(), rel=1e-6)


def test_captions_of_unequal_length_weigh_by_their_tokens() -> None:
    logits, targets = random_batch([1, 4], num_positions=4)
    first = CaptionLoss()(logits[:1], targets[:1]).item()
    second = CaptionLoss()(logits[1:], targets[1:]).item()
    assert CaptionLoss()(logits, targets).item() == pytest.approx((first + 4 * second) / 5, rel=1e-5)


def test_half_precision_predictions_are_summed_in_fp32() -> None:
    logits, targets = random_batch([4], num_positions=4)
    loss = CaptionLoss()(logits.bfloat16(), targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(CaptionLoss()(logits.bfloat16().float(), targets).item(), rel=1e-6)


def test_a_batch_without_a_target_gives_zero_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 7, requires_grad=True)
    loss = CaptionLoss()(logits, torch.full((2, 3), IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(
    ("predictions", "targets"),
    [((4, 7), (5,)), ((2, 3, 7), (6,)), ((2, 3, 7), (3, 2)), ((7,), ()), ((1, 2, 3, 7), (1, 2, 3))],
)
def test_shapes_that_do_not_match_are_named(predictions: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"found predictions \[.*\] with targets \["):
        CaptionLoss()(torch.zeros(predictions), torch.zeros(targets, dtype=torch.long))


@given(captions=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_the_end_mark_is_always_the_last_target(captions: list[str]) -> None:
    tokenizer = CaptionTokenizer.bytes()
    tokens = tokenizer.encode_batch(captions, max_seq_len=8)
    for row in tokens.targets:
        supervised = row[row != IGNORE_INDEX].tolist()
        assert supervised[-1] == tokenizer.eos_id
        assert tokenizer.eos_id not in supervised[:-1]


# --- label smoothing --------------------------------------------------------------------------------------------------


def test_smoothing_over_all_columns_is_that_of_torch() -> None:
    logits, targets = random_batch([3, 5, 1], num_positions=5)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.2)
    assert CaptionLoss(0.2)(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_smoothing_asks_for_no_probability_outside_the_target_ids() -> None:
    logits, targets = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True), torch.tensor([3])
    loss_fn = CaptionLoss(0.3, target_ids=range(2, 5))
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(2000):
        optimizer.zero_grad()
        loss_fn(logits, targets).backward()
        optimizer.step()
    learned = logits.detach().softmax(dim=-1)[0].tolist()
    assert learned == pytest.approx([0, 0, 0.1, 0.8, 0.1, 0, 0], abs=2e-3)


def test_smoothing_is_for_training_and_off_in_eval_mode() -> None:
    logits, targets = random_batch([4], num_positions=4)
    smoothed = CaptionLoss(0.5)
    plain = CaptionLoss()(logits, targets).item()
    assert smoothed(logits, targets).item() != pytest.approx(plain, rel=1e-3)
    assert smoothed.eval()(logits, targets).item() == plain


def test_target_ids_may_be_told_when_they_are_known() -> None:
    logits, targets = random_batch([4], num_positions=4)
    known = {"ids": range(2, 7)}
    smoothed = CaptionLoss(0.5, target_ids=lambda: known["ids"])
    before = smoothed(logits, targets).item()
    known["ids"] = range(2, 4)
    assert (
        smoothed(logits, targets).item() == CaptionLoss(0.5, target_ids=range(2, 4))(logits, targets).item() != before
    )


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_a_share_that_is_none_is_refused(smoothing: float) -> None:
    with pytest.raises(ConfigError, match="label_smoothing must be a number at least 0 and below 1"):
        CaptionLoss(smoothing)


def test_target_ids_that_are_not_in_the_table_are_told() -> None:
    logits, targets = random_batch([4], num_positions=4)
    with pytest.raises(ConfigError, match=r"ids 2 to 8, but the predictions have 7 columns"):
        CaptionLoss(0.1, target_ids=range(2, 9))(logits, targets)


def test_captions_hold_all_ids_but_padding_and_the_start() -> None:
    tokenizer = CaptionTokenizer.train(["a red circle", "a red square"], vocab_size=300)
    assert set(tokenizer.target_ids) == set(range(tokenizer.vocab_size)) - {tokenizer.pad_id, tokenizer.bos_id}
    assert tokenizer.eos_id in tokenizer.target_ids


# --- the loss of a Trainer --------------------------------------------------------------------------------------------


def test_shares_of_a_step_add_up_to_the_mean_over_its_tokens() -> None:
    means, counts = [torch.tensor(2.0), torch.tensor(5.0)], [1, 3]
    shares = [
        share_of_step(mean, num_tokens=count, num_tokens_of_step=4) for mean, count in zip(means, counts, strict=True)
    ]
    assert sum(shares).item() == pytest.approx((2 + 3 * 5) / 4)
    assert share_of_step(means[0], num_tokens=7, num_tokens_of_step=7).item() == 2.0


def test_a_loss_of_the_user_is_taken_as_it_is() -> None:
    own = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert loss_of_training(own, label_smoothing=0.0, target_ids=lambda: range(2, 7)) is own


def test_a_loss_of_the_user_cannot_be_smoothed_by_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing=0.1 .* Leave out one of the two, or smooth inside"):
        loss_of_training(F.cross_entropy, label_smoothing=0.1, target_ids=lambda: range(2, 7))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_loss_that_is_no_mean_is_refused(reduction: str) -> None:
    with pytest.raises(ConfigError, match=f"reduction='{reduction}'.*Use reduction='mean'"):
        loss_of_training(nn.CrossEntropyLoss(reduction=reduction), label_smoothing=0.0, target_ids=lambda: range(2, 7))
