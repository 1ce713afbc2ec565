"""BLEU-1..4, ROUGE-L and CIDEr-D of 5,000 captions with five references each, against pycocoevalcap.

Both sides get the same words, joined by spaces as its tokenizer leaves them, and give the scores of the set and of each
picture; no Java runs on either side. Told beside: ours from raw text, and a thousand draws for the intervals. Checked:
all values of all pictures agree to nine places. The captions are those of `../shared/data/metric_reference`, beside
the repository; where they are not there, they are made up, and the output says so.
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import paired_seconds, ratio_of_medians
from benchmarks.report import print_table
from benchmarks.train_step import made_captions
from systems.pixel_llm.evaluation import words
from systems.pixel_llm.evaluation.bleu import bleu_statistics
from systems.pixel_llm.evaluation.cider import cider
from systems.pixel_llm.evaluation.ngrams import count_ngrams
from systems.pixel_llm.evaluation.rouge import rouge_l
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.evaluation.words import tokenize_captions

NUM_PICTURES, NUM_SMALL, NUM_REFERENCES = 5_000, 200, 5
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "metric_reference" / "coco5k_no_scores"
OURS, THEIRS = "pixel_llm", "pycocoevalcap"
TARGET = 5.0

Values = tuple[np.ndarray, np.ndarray]
"""[6] of the set and [N, 6] of each picture: BLEU-1..4, ROUGE-L, CIDEr-D."""


def run(*, rounds: int, small: bool = False) -> dict[str, Any]:
    """Print seconds and the ratio."""
    captions, references, told = read_captions(NUM_SMALL if small else NUM_PICTURES)
    print(f"{len(captions):,} captions, {sum(map(len, references)):,} references, {told}")
    said = [" ".join(cut) for cut in tokenize_captions(captions)]
    wanted = [[" ".join(cut) for cut in tokenize_captions(each)] for each in references]
    sides: dict[str, Callable[[], Any]] = {OURS: lambda: our_scores(said, wanted)}
    if (theirs := make_their_scores(said, wanted)) is None:
        print(f"{THEIRS} is not installed: left out")
    else:
        sides[THEIRS] = theirs
        check_equal(our_scores(said, wanted), theirs())
    scored = score_captions(captions, references)
    sides[f"{OURS}, from raw text"] = lambda: scores_of_raw_text(captions, references)
    sides["1,000 draws for intervals"] = scored.scores
    seconds = paired_seconds(sides, rounds=rounds, warmups=1)

    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    print_table(["side", "seconds"], [[name, f"{median:.3f}"] for name, median in medians.items()])
    found: dict[str, Any] = {"captions": told, "num_pictures": len(captions), "seconds": seconds}
    if THEIRS in seconds:
        found["ratio"] = ratio_of_medians(seconds[THEIRS], seconds[OURS])
        print(f"  ratio {found['ratio']:.1f} x, to reach {TARGET} x; all values agree to nine places")
    return found


def read_captions(count: int) -> tuple[list[str], list[list[str]], str]:
    """A caption and five references for each picture, and where they are from."""
    if not REAL_DATA.is_dir():
        made = made_captions(count * (NUM_REFERENCES + 1))
        return made[:count], [made[count + i :: count][:NUM_REFERENCES] for i in range(count)], "MADE-UP"
    captions = json.loads((REAL_DATA / "captions_example.json").read_text(encoding="utf-8"))
    listed = json.loads((REAL_DATA / "references_example.json").read_text(encoding="utf-8"))["annotations"]
    references: dict[str, list[str]] = {}
    for each in listed:
        references.setdefault(each["image_id"], []).append(each["caption"])
    chosen = captions[:count]
    return (
        [each["caption"] for each in chosen],
        [references[each["image_id"]] for each in chosen],
        f"of {REAL_DATA.parent.name}/{REAL_DATA.name}",
    )


def our_scores(captions: list[str], references: list[list[str]]) -> Values:
    """Scores of words that are joined by spaces."""
    said = [caption.split() for caption in captions]
    wanted = [[each.split() for each in some] for some in references]
    counts = count_ngrams(said, wanted)
    bleu, rouge, cider_d = bleu_statistics(counts), rouge_l(said, wanted), cider(counts)
    whole = np.array([*bleu.corpus(), rouge.mean(), cider_d.mean()])
    return whole, np.column_stack([bleu.per_caption(), rouge, cider_d])


def scores_of_raw_text(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """Ours with tokenisation, nothing of it remembered from the round before."""
    words._words_of_piece.cache_clear()
    return score_captions(captions, references).per_picture


def make_their_scores(captions: list[str], references: list[list[str]]) -> Callable[[], Values] | None:
    """The same of pycocoevalcap; None where it is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        return None
    said = {picture: [caption] for picture, caption in enumerate(captions)}
    wanted = dict(enumerate(references))

    def scores() -> Values:
        bleu, each_bleu = Bleu(4).compute_score(wanted, said, verbose=0)
        rouge, each_rouge = Rouge().compute_score(wanted, said)
        cider_d, each_cider = Cider().compute_score(wanted, said)
        return np.array([*bleu, rouge, cider_d]), np.column_stack([*each_bleu, each_rouge, each_cider])

    return scores


def check_equal(ours: Values, theirs: Values) -> None:
    """What is timed must be right."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
