"""Beam search: of all ways to go on, those with the best sums of log-probabilities are followed, a few a picture.

The captions of a batch of pictures are followed together, `num_beams` rows a picture. At each token, of all
continuations of a picture's captions the best `num_beams` are kept: those that end there are put aside as finished, and
their places are taken by the next best, so that there are always `num_beams` to follow. Finished captions are ranked by
their sum divided by (number of tokens) ** length_penalty, as in Y. Wu et al., "Google's Neural Machine Translation
System", 2016, section 7, with the plain power in place of theirs. A picture is done when none of the captions that are
followed can still come among those that will be returned, whatever is said, or with `early_stopping` when `num_beams`
have ended. Those cut off at the greatest length take part in the ranking as they are.

What a rule forbids is taken away and the rest is not scaled up: a caption that would have repeated itself pays for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from systems.pixel_llm.models.captions_in_progress import CaptionsInProgress, pictures_to_keep
from systems.pixel_llm.models.generation_options import GenerationOptions
from systems.pixel_llm.models.logits_rules import forbid, penalise_repetition

__all__ = ["search_beams"]

NEVER = float("-inf")


def search_beams(
    captions: CaptionsInProgress, options: GenerationOptions, *, max_length: int, eos_id: int
) -> tuple[Tensor, Tensor]:
    """The best `num_return_sequences` captions of each picture, best first.

    Returns:
        Ids [B * n, L], the prefix included, `<eos>` after the end; the model's own log-probability [B * n] of each.
    """
    logits = captions.next_logits()
    num_pictures, num_beams, prefix_length = len(logits), options.num_beams, captions.length
    first_rows = torch.arange(num_pictures, device=logits.device) * num_beams
    rows = (first_rows // num_beams).repeat_interleave(num_beams)
    captions.select(rows)
    logits = logits.index_select(0, rows)
    # All beams of a picture are alike as yet: the first alone has continuations.
    following = torch.full((num_pictures, num_beams), NEVER, device=logits.device)
    following[:, 0] = 0.0
    own = torch.zeros_like(following)
    finished = _Finished(num_pictures, options, max_length, eos_id=eos_id, device=logits.device)
    is_done = torch.zeros(num_pictures, dtype=torch.bool, device=logits.device)
    while True:
        own_next = logits.log_softmax(dim=-1)
        penalised = penalise_repetition(logits, captions.said, options)
        scores = own_next if penalised is logits else penalised.log_softmax(dim=-1)
        scores = forbid(scores, captions.said, options, eos_id=eos_id)
        continued = _Continuations.best(following, own, scores, own_next)
        num_said = captions.length + 1 - prefix_length
        is_end = (continued.token == eos_id) & ~is_done[:, None]
        # An end that is not among the best num_beams leaves the beam, as any other continuation would.
        is_end[:, num_beams:] = False
        scale = num_said**options.length_penalty
        finished.add(captions.said, continued, scores=(continued.score / scale).masked_fill(~is_end, NEVER))

        goes_on = continued.score.masked_fill(continued.token == eos_id, NEVER)
        following, chosen = goes_on.topk(num_beams)
        own, token = continued.own.gather(1, chosen), continued.token.gather(1, chosen)
        captions.select((first_rows[:, None] + continued.beam.gather(1, chosen)).flatten())
        captions.append(token.flatten())
        if options.early_stopping:
            is_done |= finished.is_full
        if captions.length == max_length:
            finished.add_cut(captions.said, own, scores=(following / scale).masked_fill(is_done[:, None], NEVER))
            is_done[:] = True
        best_possible = _best_possible(following[:, 0], num_said, max_length - prefix_length, options.length_penalty)
        is_done |= finished.worst_returned >= best_possible
        kept = pictures_to_keep(is_done)
        if kept is not None:
            finished.settle(kept)
            if not len(kept):
                return finished.ids.flatten(0, 1), finished.log_probability.flatten()
            captions.keep_pictures(kept)
            is_done, first_rows = is_done[kept], first_rows[: len(kept)]
            following, own = following[kept], own[kept]
        logits = captions.next_logits()


def _best_possible(score: Tensor, num_said: int, most: int, length_penalty: float) -> Tensor:
    """The highest score that a caption with the sum `score` (at most 0) after `num_said` tokens may still end with.

    Its sum can only fall. Divided by a power of its length it is highest at the greatest length, or for a penalty below
    zero at the smallest.
    """
    return score / (most if length_penalty > 0 else num_said + 1) ** length_penalty


@dataclass(frozen=True)
class _Continuations:
    """The best 2 * num_beams of each picture: enough for num_beams that go on, however many end."""

    score: Tensor
    """[B, 2 * num_beams] sums of log-probabilities under the rules, best first."""
    own: Tensor
    """[B, 2 * num_beams] sums of the model's own."""
    beam: Tensor
    """[B, 2 * num_beams] which of the picture's captions is continued."""
    token: Tensor
    """[B, 2 * num_beams] with what."""

    @classmethod
    def best(cls, following: Tensor, own: Tensor, scores: Tensor, own_next: Tensor) -> "_Continuations":
        """From the sums so far [B, num_beams], and what each next token adds to both [B * num_beams, V]."""
        num_beams, vocabulary = following.shape[1], scores.shape[1]
        sums = following[:, :, None] + scores.view(*following.shape, vocabulary)
        score, place = sums.flatten(1).topk(2 * num_beams)
        beam, token = place.div(vocabulary, rounding_mode="floor"), place % vocabulary
        added = own_next.view(len(following), -1).gather(1, place)
        return cls(score=score, own=own.gather(1, beam) + added, beam=beam, token=token)


class _Finished:
    """The best `num_beams` finished captions of each picture so far, best first; and what is returned of them."""

    def __init__(
        self, num_pictures: int, options: GenerationOptions, max_length: int, *, eos_id: int, device: torch.device
    ) -> None:
        self._scores = torch.full((num_pictures, options.num_beams), NEVER, device=device)
        self._own = self._scores.clone()
        self._ids = torch.full((*self._scores.shape, max_length), eos_id, device=device)
        self._eos_id = eos_id
        self._places = torch.arange(num_pictures, device=device)  # of these pictures among all
        number = options.num_return_sequences
        self.ids = self._ids[:, :number].clone()
        """[all pictures, num_return_sequences, max_length], right once the picture is settled."""
        self.log_probability = self._own[:, :number].clone()
        """[all pictures, num_return_sequences], the same; minus infinity where there are fewer captions."""

    def add(self, said: Tensor, continued: _Continuations, *, scores: Tensor) -> None:
        """Captions that say `<eos>` after what stands in `said` [B * num_beams, L]; minus infinity for the others."""
        rows = said.view(*self._scores.shape, -1)
        beam = continued.beam[:, :, None].expand(-1, -1, rows.shape[2])
        self._merge(rows.gather(1, beam), continued.own, scores)

    def add_cut(self, said: Tensor, own: Tensor, *, scores: Tensor) -> None:
        """Captions [B * num_beams, L] as they stand at the greatest length."""
        self._merge(said.view(*self._scores.shape, -1), own, scores)

    @property
    def is_full(self) -> Tensor:
        """[B] whether there are `num_beams` already."""
        return self._scores[:, -1] > NEVER

    @property
    def worst_returned(self) -> Tensor:
        """[B] the score of the last caption to be returned, minus infinity while there are fewer."""
        return self._scores[:, self.ids.shape[1] - 1]

    def settle(self, kept: Tensor) -> None:
        """Write down what is to be returned, and go on with the pictures `kept` [P] alone."""
        number = self.ids.shape[1]
        is_absent = self._scores[:, :number] == NEVER
        self.ids[self._places] = self._ids[:, :number].masked_fill(is_absent[:, :, None], self._eos_id)
        self.log_probability[self._places] = self._own[:, :number].masked_fill(is_absent, NEVER)
        self._scores, self._own, self._ids = self._scores[kept], self._own[kept], self._ids[kept]
        self._places = self._places[kept]

    def _merge(self, ids: Tensor, own: Tensor, scores: Tensor) -> None:
        num_beams = self._scores.shape[1]
        self._scores, kept = torch.cat([self._scores, scores], dim=1).topk(num_beams)
        self._own = torch.cat([self._own, own], dim=1).gather(1, kept)
        length = self._ids.shape[2]
        padded = self._ids.new_full((*ids.shape[:2], length), self._eos_id)
        padded[:, :, : ids.shape[2]] = ids
        self._ids = torch.cat([self._ids, padded], dim=1).gather(1, kept[:, :, None].expand(-1, -1, length))
