"""METEOR from what its program counts in each caption: matches of words, of stems, of synonyms and of paraphrases.

M. Denkowski and A. Lavie, "Meteor 1.3: Automatic Metric for Reliable Optimization and Evaluation of Machine Translation
Systems", WMT 2011, section 2, with the parameters that they tuned for English. Precision and recall count content words
three times as much as function words, and matches by the weight of their kind; their mean leans to recall, and is
lowered the more pieces the matches lie in. The program finds the matches and the best reference; the score of one
caption, of the set, and of pictures drawn anew is then this one function of sums.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUM_STATISTICS", "SETTINGS", "meteor_of_sums", "summable"]

NUM_STATISTICS = 23
"""Of each caption, in the program's order: words of the caption and of the reference, function words of both; for each
kind of match (exact, stem, synonym, paraphrase) content words of both, function words of both; pieces; matched words of
both. "Both" is the caption, then the reference."""

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_KINDS = np.array([1.0, 0.6, 0.8, 0.6])
SETTINGS = "alpha:0.85|beta:0.2|gamma:0.6|delta:0.75|weights:1,0.6,0.8,0.6"
"""For signatures."""

_CAPTION, _REFERENCE = 0, 1
_WORDS, _FUNCTION_WORDS, _MATCHES, _PIECES, _MATCHED = slice(0, 2), slice(2, 4), slice(4, 20), 20, slice(21, 23)


def summable(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, 23] of which sums make scores: a caption of which all words match in one piece counts no piece at all."""
    all_words = statistics[:, _MATCHES].reshape(-1, 4, 2, 2).sum(axis=(1, 2)) == statistics[:, _WORDS]
    whole = all_words.all(axis=1) & (statistics[:, _PIECES] == 1)
    summed = statistics.copy()
    summed[whole, _PIECES] = 0
    return summed


def meteor_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[...] METEOR, 0..1, of [..., 23] `summable` statistics of a caption, or their sums over captions."""
    kinds = sums[..., _MATCHES].reshape(*sums.shape[:-1], 4, 2, 2)  # kind, content or function words, both sides
    matches = np.einsum("...kwb,k,w->...b", kinds, _KINDS, np.array([_DELTA, 1 - _DELTA]))
    function_words = sums[..., _FUNCTION_WORDS]
    words = _DELTA * (sums[..., _WORDS] - function_words) + (1 - _DELTA) * function_words
    share = np.divide(matches, words, out=np.zeros_like(matches), where=words > 0)
    precision, recall = share[..., _CAPTION], share[..., _REFERENCE]
    some = (precision > 0) & (recall > 0)
    below = np.where(some, (1 - _ALPHA) * recall + _ALPHA * precision, 1)
    matched = np.where(some, sums[..., _MATCHED].mean(axis=-1), 1)
    penalty = _GAMMA * (sums[..., _PIECES] / matched) ** _BETA
    return np.asarray(np.where(some, np.maximum(precision * recall / below * (1 - penalty), 0), 0))
