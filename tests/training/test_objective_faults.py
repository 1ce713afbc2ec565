"""The proofs of the objective can fail: each known fault, put into the very line where it would be made, is caught.

The faults are those that caption trainers have had. A fault is a line of the program and what becomes of it; where that
line is rewritten, the test says so, and the fault is to be put into the new one. The best known are put in at each run
of the quick tests, the others in the slow ones.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from systems.pixel_llm.models import decoder, layers
from systems.pixel_llm.tokenizer import CaptionTokenizer
from systems.pixel_llm.training import CaptionLoss, loss
from systems.pixel_llm.training.optimizer_step import OptimizerStep
from systems.pixel_llm.training.stepping import Stepping
from tests.training import objective_proofs as proofs
from tests.training.objective_proofs import PROOFS


@dataclass(frozen=True)
class Fault:
    """A fault, and the proofs that must catch it (others may)."""

    name: str
    owner: Any
    """The class or module that holds the function."""
    function: str
    line: str
    becomes: str
    caught_by: tuple[Callable[[], None], ...]
    is_quick: bool = False


STEP, VALIDATION = proofs.a_step_minimises_the_mean_surprise, proofs.validation_is_the_mean_surprise_in_any_order
SMOOTHED, TARGETS = (
    proofs.a_smoothed_step_minimises_the_smoothed_surprise,
    proofs.targets_are_the_next_tokens_and_the_end,
)
PADDING, MICRO_BATCHES = proofs.padding_changes_nothing, proofs.micro_batches_add_up_to_the_large_batch
PICTURES = proofs.captions_look_at_their_own_picture

TARGETS_LINE = "targets[row, : len(ids) + 1] = torch.tensor([*ids, self.eos_id])"
FAULTS = [
    Fault(
        "shift by two: each place learns the token after the next",
        CaptionTokenizer, "encode_batch", TARGETS_LINE,
        "targets[row, : len(ids) + 1] = torch.tensor([*ids, self.eos_id, self.eos_id][1:])",
        (STEP, SMOOTHED, TARGETS, VALIDATION),
        is_quick=True,
    ),
    Fault(
        "no shift: each place learns the token that it reads",
        CaptionTokenizer, "encode_batch", TARGETS_LINE,
        "targets[row, : len(ids) + 1] = torch.tensor([self.bos_id, *ids])",
        (STEP, SMOOTHED, TARGETS, VALIDATION),
    ),
    Fault(
        "padding counted: it is a target like any other",
        CaptionTokenizer, "encode_batch",
        "targets = torch.full((len(rows), length), IGNORE_INDEX, dtype=torch.long)",
        "targets = torch.full((len(rows), length), self.pad_id, dtype=torch.long)",
        (STEP, SMOOTHED, TARGETS, VALIDATION, PADDING, MICRO_BATCHES),
        is_quick=True,
    ),
    Fault(
        "the end mark dropped",
        CaptionTokenizer, "encode_batch", TARGETS_LINE,
        "targets[row, : len(ids)] = torch.tensor(ids)",
        (STEP, SMOOTHED, TARGETS, VALIDATION),
        is_quick=True,
    ),
    Fault(
        "the end mark dropped where padding has its id: the last of each row is masked",
        CaptionTokenizer, "encode_batch",
        "supervised = (targets.flatten() != IGNORE_INDEX).nonzero().flatten()",
        "supervised = ((targets != IGNORE_INDEX) & (targets != self.eos_id)).flatten().nonzero().flatten()",
        (STEP, SMOOTHED, TARGETS, VALIDATION),
    ),
    Fault(
        "the end mark dropped from captions that are cut",
        CaptionTokenizer, "encode_batch", TARGETS_LINE,
        "targets[row, : len(ids) + 1] = torch.tensor([*ids, self.eos_id if len(ids) < max_seq_len - 1 else -100])",
        (STEP, SMOOTHED, TARGETS, VALIDATION),
    ),
    Fault(
        "mean of means over the captions of a batch",
        OptimizerStep, "loss",
        "loss: Tensor = self.loss_fn(in_full_precision(predictions), targets)",
        """rows = part.tokens.supervised // part.tokens.targets.shape[1]
        means = [self.loss_fn(predictions[rows == row], targets[rows == row]) for row in rows.unique()]
        loss = torch.stack(means).mean()""",
        (STEP, SMOOTHED, VALIDATION, MICRO_BATCHES),
    ),
    Fault(
        "mean of means over micro-batches",
        OptimizerStep, "accumulate",
        "loss = share_of_step(loss, num_tokens=part.num_tokens, num_tokens_of_step=num_tokens)",
        "loss = loss / len(parts)",
        (MICRO_BATCHES,),
        is_quick=True,
    ),
    Fault(
        "mean of means over the batches of a validation",
        Stepping, "mean_loss",
        "loss_sum += loss * part.num_tokens",
        "loss_sum += loss; num_tokens += 1 - part.num_tokens",
        (VALIDATION,),
        is_quick=True,
    ),
    Fault(
        "smoothing in validation",
        CaptionLoss, "forward",
        "if self.training and self.label_smoothing > 0:",
        "if self.label_smoothing > 0:",
        (VALIDATION,),
    ),
    Fault(
        "smoothing over padding and spare rows",
        CaptionLoss, "_smoothed_sum",
        "log_probabilities[:, ids.start : ids.stop].mean(dim=-1)",
        "log_probabilities.mean(dim=-1)",
        (SMOOTHED,),
    ),
    Fault(
        "a look at the tokens to come",
        decoder.DecoderBlock, "_attend_to_caption",
        "attend(query, key, value, is_causal=True)",
        "attend(query, key, value, is_causal=False)",
        (STEP, SMOOTHED, PADDING, VALIDATION, MICRO_BATCHES),
    ),
    Fault(
        "captions at the picture of another",
        decoder.TextDecoder, "look_at",
        "heads = [each.index_select(0, image_index) for each in heads]",
        "heads = [each.index_select(0, image_index.flip(0)) for each in heads]",
        (STEP, SMOOTHED, VALIDATION, MICRO_BATCHES, PICTURES),
    ),
    Fault(
        "the picture ignored",
        layers.CrossAttention, "forward",
        "return self.out(found.view(hidden.shape))",
        "return self.out(0 * found.view(hidden.shape))",
        (PICTURES,),
    ),
]  # fmt: skip


def put_in(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the function anew with the fault in its line, in the names of its own module."""
    function = getattr(fault.owner, fault.function)
    source = inspect.getsource(function)
    assert source.count(fault.line) == 1, (
        f"{function.__qualname__} has no longer exactly one line {fault.line!r}: put the fault into what "
        "took its place."
    )
    source = textwrap.dedent(source.replace(fault.line, fault.becomes))
    made: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + source, f"<{fault.name}>", "exec", dont_inherit=True)
    exec(code, function.__globals__, made)
    monkeypatch.setattr(fault.owner, fault.function, made[fault.function])


@pytest.mark.parametrize(
    "fault",
    [pytest.param(each, id=each.name, marks=() if each.is_quick else pytest.mark.slow) for each in FAULTS],
)
def test_the_proofs_catch(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(fault, monkeypatch)
    for proof in fault.caught_by:
        with pytest.raises(AssertionError):
            proof()


def test_each_proof_catches_something() -> None:
    assert {proof for fault in FAULTS for proof in fault.caught_by} == set(PROOFS)


def test_a_line_that_is_not_there_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("of another time", loss, "share_of_step", "return loss * 2", "return loss", ())
    with pytest.raises(AssertionError, match="share_of_step has no longer exactly one line"):
        put_in(fault, monkeypatch)
    assert loss.share_of_step(torch.tensor(2.0), num_tokens=1, num_tokens_of_step=4).item() == 0.5
