"""A model and captioned pictures in, an `EvaluationResult` out: captions, scores, and the lines to read them by.

`evaluate` goes over the training pictures once, for the nearest-neighbour baseline, and over the pictures once, batch
by batch: they are captioned, and looked up among the training pictures. What is kept of a picture is text. Then the
texts are scored: the model's, both baselines', people's.

Nothing is guessed: a line that cannot be computed is named with the reason, a picture that cannot be read is left out
and listed, and the number of pictures and references is in every signature.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.picture_path import PicturePath
from systems.pixel_llm.data.samples import SampleTable
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.evaluation.cider import FEW_PICTURES, DocumentFrequencies, caveat
from systems.pixel_llm.evaluation.consensus import best_constant_caption, central_captions
from systems.pixel_llm.evaluation.diversity import Diversity, diversity
from systems.pixel_llm.evaluation.human_line import human_line
from systems.pixel_llm.evaluation.nearest_neighbour import (
    MAX_PICTURES,
    NearestNeighbour,
    picture_features,
    read_pictures,
)
from systems.pixel_llm.evaluation.optional_scores import optional_scores
from systems.pixel_llm.evaluation.result import EvaluationResult, HumanLine, PictureResult, ScoreRow, SkippedPicture
from systems.pixel_llm.evaluation.score import score_captions
from systems.pixel_llm.evaluation.words import tokenize_caption, tokenize_captions
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models.generation_options import GenerationOptions

__all__ = [
    "BEAM_SEARCH",
    "CaptionedPictures",
    "Progress",
    "bounded",
    "caption_pictures",
    "evaluate",
    "with_optional_scores",
]

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many pictures of it are, and of how many."""

BEAM_SEARCH = GenerationOptions(num_beams=3)
"""How captions are made unless something else is asked for: as `pixel-llm caption` makes them."""

MAX_CONSTANT_PICTURES = 2_000
"""Training pictures against which constant captions are tried: a second or two."""


@dataclass(kw_only=True)
class CaptionedPictures:
    """What came of going over the pictures: lists with one entry for each that could be read, in order."""

    images: list[str] = field(default_factory=list)
    """Absolute paths."""
    captions: list[str] = field(default_factory=list)
    references: list[tuple[str, ...]] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    nearest: list[int] = field(default_factory=list)
    """The number of the training picture most alike; empty where none were given."""
    skipped: list[SkippedPicture] = field(default_factory=list)


def evaluate(
    captioner: Captioner,
    samples: SampleTable,
    *,
    run: str,
    checkpoint: str,
    data: Sequence[str],
    split: str,
    train: SampleTable | None,
    without_train: str = "no training pictures were given",
    generation: GenerationOptions = BEAM_SEARCH,
    batch_size: int = 32,
    num_workers: int | None = None,
    max_train_pictures: int = MAX_PICTURES,
    frequencies: DocumentFrequencies | None = None,
    on_progress: Progress | None = None,
) -> EvaluationResult:
    """Caption `samples` and score what comes out.

    Args:
        captioner: the model.
        samples: the pictures, each with its references.
        run: how the model is called, for the record; so are `checkpoint`, `data` and `split`.
        checkpoint: its folder of weights.
        data: the folders of the pictures.
        split: which of their pictures these are.
        train: the training pictures, for the baselines and the share of captions copied from them.
        without_train: why there are none, where there are none.
        generation: how captions are made; the first of each picture is scored. Draws are the same each time. Without
            a `max_length`, see `bounded`.
        batch_size: pictures captioned at once.
        num_workers: threads that decode; left out, measured.
        max_train_pictures: of more, so many are looked at for the nearest neighbour, evenly spaced.
        frequencies: how rare words are, for CIDEr-D, in place of counting them over the references.
        on_progress: called as it goes on.

    Raises:
        DatasetError: none of the pictures can be read.
        ConfigError: a setting is out of range.
    """
    told = on_progress or (lambda what, done, total: None)
    not_computed: dict[str, str] = {}
    generation = bounded(generation, captioner, train)
    neighbour = _neighbour(
        captioner, train, not_computed, batch_size=batch_size, num_workers=num_workers,
        max_pictures=max_train_pictures, on_progress=told,
    )  # fmt: skip
    captioned = caption_pictures(
        captioner, samples, generation=generation, batch_size=batch_size, num_workers=num_workers, neighbour=neighbour,
        on_progress=told,
    )  # fmt: skip
    scores = score_captions(captioned.captions, captioned.references, frequencies=frequencies)
    baselines: dict[str, ScoreRow] = {}
    if train is None:
        not_computed |= dict.fromkeys(("constant", "nearest", "copied_share"), without_train)
    else:
        baselines["constant"] = _constant_row(captioned, train, frequencies)
    if neighbour is not None:
        baselines["nearest"] = _nearest_row(captioned, neighbour, frequencies)
    model = ScoreRow(label="model", scores=tuple(scores.scores()))
    return EvaluationResult(
        run=run, checkpoint=checkpoint, data=tuple(data), split=split,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        generation=asdict(generation),
        pictures=_picture_results(captioned, scores.cider_d.tolist()),
        scores=model.scores,
        baselines=baselines,
        human=_human(captioned, frequencies, not_computed),
        diversity=_diversity(captioned.captions, train),
        not_computed=not_computed,
        caveats=(*_caveats(captioned, frequencies), *_not_above(model, baselines, len(captioned.images))),
        skipped=tuple(captioned.skipped),
    )  # fmt: skip


def caption_pictures(
    captioner: Captioner,
    samples: SampleTable,
    *,
    generation: GenerationOptions = BEAM_SEARCH,
    batch_size: int = 32,
    num_workers: int | None = None,
    neighbour: NearestNeighbour | None = None,
    on_progress: Progress | None = None,
) -> CaptionedPictures:
    """Caption each picture of `samples`, and find the training picture most alike where `neighbour` is given.

    Raises:
        DatasetError: none of them can be read.
    """
    captioned, done = CaptionedPictures(), 0
    generator = torch.Generator(captioner.model.device).manual_seed(0)
    for batch in read_pictures(captioner, samples, batch_size=batch_size, num_workers=num_workers):
        images, paths = batch["images"], batch["image_paths"]
        if paths:
            scored = captioner.model.generate_scored(images, options=generation, generator=generator)
            captioned.captions += [captions[0].text for captions in scored]
            captioned.log_probabilities += [captions[0].log_probability for captions in scored]
            captioned.images += [str(Path(path).absolute()) for path in paths]
            captioned.references += _references(batch["captions"], batch["caption_image_index"], len(paths))
            if neighbour is not None:
                captioned.nearest += neighbour.nearest(picture_features(captioner, images))
        bad = batch.get("bad_pictures", [])
        captioned.skipped += [SkippedPicture(path=each.path, reason=each.reason) for each in bad]
        done += len(paths) + len(bad)
        if on_progress is not None:
            on_progress("captioning", done, len(samples))
    if not captioned.images:
        first = captioned.skipped[0]
        raise DatasetError(
            f"None of the {len(captioned.skipped)} pictures can be read, so there is nothing to score. The first: "
            f"{first.reason}"
        )
    return captioned


def with_optional_scores(
    result: EvaluationResult, *, pictures: Sequence[PicturePath], clip_folder: Path | None = None
) -> EvaluationResult:
    """The same with chrF, METEOR, SPICE and CLIPScore, or why they cannot be had; see `optional_scores`.

    `pictures` are those of `result.pictures`, in order; `clip_folder` holds a CLIP model.
    """
    found = optional_scores(
        [each.caption for each in result.pictures],
        [each.references for each in result.pictures],
        pictures=pictures,
        clip_folder=clip_folder,
    )
    return replace(
        result,
        scores=(*result.scores, *found.scores),
        not_computed={**result.not_computed, **found.not_computed},
    )


def bounded(generation: GenerationOptions, captioner: Captioner, train: SampleTable | None) -> GenerationOptions:
    """With a `max_length` where it has none: that of the longest training caption looked at, end mark included.

    A model that has learned little may never end a caption by itself, and the rest would be noise.
    """
    if generation.max_length is not None or train is None:
        return generation
    captions = list(train.evenly_spaced(MAX_CONSTANT_PICTURES).captions)
    prefix = len(captioner.model.tokenizer.encode(generation.prefix)) if generation.prefix else 0
    longest = captioner.model.encode_captions(captions).targets.shape[1] + prefix
    longest = max(longest, generation.min_length + 1)
    return replace(generation, max_length=min(longest, captioner.model.config.max_seq_len))


def _references(captions: list[str], picture_of_each: torch.Tensor, count: int) -> list[tuple[str, ...]]:
    """Of each of `count` pictures its captions."""
    references: list[list[str]] = [[] for _ in range(count)]
    for caption, picture in zip(captions, picture_of_each.tolist(), strict=True):
        references[picture].append(caption)
    return [tuple(each) for each in references]


def _picture_results(captioned: CaptionedPictures, cider_d: list[float]) -> tuple[PictureResult, ...]:
    columns = (captioned.images, captioned.captions, captioned.references, captioned.log_probabilities, cider_d)
    return tuple(
        PictureResult(image=image, caption=caption, references=references, log_probability=probability, cider_d=value)
        for image, caption, references, probability, value in zip(*columns, strict=True)
    )


# --- the lines beside the model ---------------------------------------------------------------------------------------


def _neighbour(
    captioner: Captioner,
    train: SampleTable | None,
    not_computed: dict[str, str],
    *,
    batch_size: int,
    num_workers: int | None,
    max_pictures: int,
    on_progress: Progress,
) -> NearestNeighbour | None:
    if train is None:
        return None
    try:
        return NearestNeighbour.of(
            captioner, train.evenly_spaced(max_pictures), batch_size=batch_size, num_workers=num_workers,
            on_progress=lambda done, total: on_progress("looking at training pictures", done, total),
        )  # fmt: skip
    except DatasetError as error:  # the pictures are gone, their captions are still there
        not_computed["nearest"] = str(error)
        return None


def _constant_row(
    captioned: CaptionedPictures, train: SampleTable, frequencies: DocumentFrequencies | None
) -> ScoreRow:
    known = [sample.captions for sample in train.evenly_spaced(MAX_CONSTANT_PICTURES)]
    constant = best_constant_caption(known)
    label = f"of {constant.num_candidates:,} training captions the best for {constant.num_pictures:,} training pictures"
    row = _row([constant.caption] * len(captioned.captions), captioned, label, frequencies)
    return replace(row, caption=constant.caption)


def _nearest_row(
    captioned: CaptionedPictures, neighbour: NearestNeighbour, frequencies: DocumentFrequencies | None
) -> ScoreRow:
    numbers = list(dict.fromkeys(captioned.nearest))
    central = central_captions([neighbour.captions_of(number) for number in numbers])
    caption_of = dict(zip(numbers, central, strict=True))
    label = f"a caption of the most similar of {len(neighbour):,} training pictures"
    return _row([caption_of[number] for number in captioned.nearest], captioned, label, frequencies)


def _row(
    captions: list[str], captioned: CaptionedPictures, label: str, frequencies: DocumentFrequencies | None
) -> ScoreRow:
    scores = score_captions(captions, captioned.references, frequencies=frequencies)
    return ScoreRow(label=label, scores=tuple(scores.scores()))


def _human(
    captioned: CaptionedPictures, frequencies: DocumentFrequencies | None, not_computed: dict[str, str]
) -> HumanLine | None:
    lone = sum(len(each) < 2 for each in captioned.references)
    if lone:
        not_computed["human"] = (
            f"{lone:,} of the {len(captioned.references):,} pictures have one reference alone, which cannot be scored "
            "against others"
        )
        return None
    return human_line(captioned.captions, captioned.references, frequencies=frequencies)


def _diversity(captions: list[str], train: SampleTable | None) -> Diversity:
    words = tokenize_captions(captions)
    if train is None:
        return diversity(words)
    said = set(map(tuple, words))
    # Of a million training captions only those are kept that the model said.
    learned = (each for caption in train.captions if (each := tuple(tokenize_caption(caption))) in said)
    return diversity(words, learned)


def _caveats(captioned: CaptionedPictures, frequencies: DocumentFrequencies | None) -> tuple[str, ...]:
    caveats = []
    few = caveat(len(captioned.images)) if frequencies is None else None
    if few is not None:
        caveats.append(few)
    if captioned.skipped:
        count, total = len(captioned.skipped), len(captioned.images) + len(captioned.skipped)
        caveats.append(
            f"{count:,} of {total:,} pictures could not be read and are not scored; the first is "
            f"{shown(captioned.skipped[0].path)}."
        )
    if all(len(each) == 1 for each in captioned.references):
        caveats.append(
            "Each picture has one reference: scores are far lower than with five, and cannot be compared with "
            "published ones."
        )
    return tuple(caveats)


def _not_above(model: ScoreRow, baselines: dict[str, ScoreRow], num_pictures: int) -> tuple[str, ...]:
    """What to say where the model's CIDEr-D is not above that of a baseline; of few pictures it would be chance."""
    score = model.score("CIDEr-D")
    if num_pictures < FEW_PICTURES or score is None or score.interval is None:
        return ()
    told = {"constant": "saying one caption of every picture", "nearest": "the caption of the most similar picture"}
    caveats = []
    for name, row in baselines.items():
        other = row.score("CIDEr-D")
        if other is not None and other.value >= score.interval[0]:
            how = "below" if other.value > score.interval[1] else "not surely above"
            caveats.append(f"By CIDEr-D the model is {how} {told[name]} ({score.value:.3f} against {other.value:.3f}).")
    return tuple(caveats)
