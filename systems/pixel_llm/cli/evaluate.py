"""`pixel-llm evaluate RUN DATA`: caption pictures that people have captioned, score that, and say what it means.

The table goes to stdout, and files into a folder: `captions.jsonl`, `scores.json`. With `--compare` the same pictures
are captioned by another run, or taken from an earlier evaluation, and the two are compared picture by picture.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.evaluate_options import EvaluateOptions
from systems.pixel_llm.cli.evaluated_data import EvaluatedData, enclosing_run, read_evaluated_data
from systems.pixel_llm.cli.evaluation_summary import print_comparison, print_evaluation
from systems.pixel_llm.cli.scan_progress import pictures_shown
from systems.pixel_llm.errors import ConfigError, DatasetError, PixelLLMError
from systems.pixel_llm.evaluation.cider import DocumentFrequencies
from systems.pixel_llm.evaluation.evaluate import (
    bounded,
    caption_pictures,
    evaluate,
    with_optional_scores,
)
from systems.pixel_llm.evaluation.evaluation_files import (
    BAD_PICTURES_FILE,
    CAPTIONS_FILE,
    SCORES_FILE,
    read_captions,
    write_evaluation,
)
from systems.pixel_llm.evaluation.result import EvaluationResult
from systems.pixel_llm.evaluation.score import Difference, compare, score_captions
from systems.pixel_llm.evaluation.words import tokenize_captions
from systems.pixel_llm.inference import Captioner, find_checkpoint

__all__ = ["run"]

logger = logging.getLogger(__name__)

CLIP_SCORES = ("clip_score", "ref_clip_score")


def run(options: EvaluateOptions) -> int:
    """Run the command."""
    checkpoint = find_checkpoint(options.run)
    device = chosen_device(options.device)
    frequencies = None
    if options.document_frequencies is not None:
        frequencies = DocumentFrequencies.load(options.document_frequencies)
    _check_compared(options)
    if options.clip is not None and not options.clip.is_dir():
        raise ConfigError(f"--clip {options.clip}: there is no such folder. Name the folder of a CLIP model.")
    data = read_evaluated_data(options)
    out = _out(options, data)
    warnings = _warnings(data)
    for warning in warnings:
        logger.warning("%s", warning)
    with pictures_shown() as on_progress:
        result = evaluate(
            Captioner.from_checkpoint(checkpoint, device=device), data.samples,
            run=str(options.run), checkpoint=str(checkpoint.resolve()), split=data.split,
            data=[str(each.resolve()) for each in data.folders],
            train=data.train, without_train=data.without_train, generation=options.generation,
            batch_size=options.batch_size, num_workers=options.num_workers, frequencies=frequencies,
            on_progress=on_progress,
        )  # fmt: skip
    result = _with_optional_scores(options, result, data)
    result = replace(result, caveats=(*warnings, *result.caveats))
    print_evaluation(result)
    write_evaluation(result, out)
    if options.compare is not None:
        differences = _compare(options, result, data, frequencies)
        write_evaluation(result, out, comparison={str(options.compare): differences})
    if options.write_document_frequencies is not None:
        _write_frequencies(options.write_document_frequencies, result)
    print(f"scores: {out / SCORES_FILE}")
    print(f"captions: {out / CAPTIONS_FILE}")
    if result.skipped:
        print(f"pictures that could not be read: {out / BAD_PICTURES_FILE}")
    return 0


def _out(options: EvaluateOptions, data: EvaluatedData) -> Path:
    out = options.out
    if out is None:
        folder = enclosing_run(options.run)
        if folder is None:
            raise ConfigError(f"{options.run} is no run folder to put the scores into. Name a folder with --out.")
        out = folder.path / "evaluation" / data.name
    if out.exists() and not out.is_dir():
        raise PixelLLMError(f"--out {out} is a file. Name a folder.")
    there = next(each for each in (out, *out.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):  # not to be found out after an hour of captioning
        raise PixelLLMError(f"{out} cannot be made: {there} cannot be written to. Name another folder with --out.")
    if not options.overwrite:
        for name in (SCORES_FILE, CAPTIONS_FILE):
            if (out / name).exists():
                raise PixelLLMError(
                    f"{out} holds an evaluation already. Add --overwrite to replace it, or name another folder with "
                    "--out."
                )
    return out


def _warnings(data: EvaluatedData) -> list[str]:
    if not data.num_trained_on:
        return []
    told = f"{data.num_trained_on:,} of the {len(data.samples):,} pictures are training pictures of this run"
    return [f"{told}: the scores tell how well it remembers, not how well it captions what it has not seen."]


def _with_optional_scores(options: EvaluateOptions, result: EvaluationResult, data: EvaluatedData) -> EvaluationResult:
    rows = {str(Path(name).absolute()): row for row, name in enumerate(data.samples.names)}
    pictures = [data.samples.path(rows[each.image]) for each in result.pictures]
    result = with_optional_scores(result, pictures=pictures, clip_folder=options.clip)
    if options.clip is not None:
        return result
    reason = "it needs a CLIP model on this machine: name its folder with --clip"
    return replace(result, not_computed={**result.not_computed, **dict.fromkeys(CLIP_SCORES, reason)})


# --- another run ------------------------------------------------------------------------------------------------------


def _is_evaluation(path: Path) -> bool:
    return (path / CAPTIONS_FILE).is_file()


def _check_compared(options: EvaluateOptions) -> None:
    """Tell what is wrong with --compare before an hour of captioning, not after it."""
    if options.compare is not None and not _is_evaluation(options.compare):
        find_checkpoint(options.compare)


def _compare(
    options: EvaluateOptions, result: EvaluationResult, data: EvaluatedData, frequencies: DocumentFrequencies | None
) -> list[Difference]:
    """Compare with the other run on the pictures that both have captions of, and print it."""
    assert options.compare is not None
    others = _captions_of_compared(options, data)
    shared = [each for each in result.pictures if each.image in others]
    if not shared:
        raise DatasetError(
            f"{options.compare} has captions of other pictures: none of these is among them. Name an evaluation of the "
            "same pictures, or a run."
        )
    if len(shared) < len(result.pictures):
        logger.warning(
            "%s has captions of %d of the %d pictures: compared on those.",
            options.compare, len(shared), len(result.pictures),
        )  # fmt: skip
    references = [each.references for each in shared]
    differences = compare(
        score_captions([each.caption for each in shared], references, frequencies=frequencies),
        score_captions([others[each.image] for each in shared], references, frequencies=frequencies),
    )
    print_comparison(differences, one=str(options.run), other=str(options.compare), num_pictures=len(shared))
    return differences


def _captions_of_compared(options: EvaluateOptions, data: EvaluatedData) -> dict[str, str]:
    """Picture -> caption."""
    assert options.compare is not None
    if _is_evaluation(options.compare):
        return {each.image: each.caption for each in read_captions(options.compare / CAPTIONS_FILE)}
    other = Captioner.from_checkpoint(options.compare, device=chosen_device(options.device))
    with pictures_shown() as on_progress:
        captioned = caption_pictures(
            other, data.samples, generation=bounded(options.generation, other, data.train),
            batch_size=options.batch_size, num_workers=options.num_workers, on_progress=on_progress,
        )  # fmt: skip
    return dict(zip(captioned.images, captioned.captions, strict=True))


def _write_frequencies(path: Path, result: EvaluationResult) -> None:
    try:
        DocumentFrequencies.count([tokenize_captions(each.references) for each in result.pictures]).save(path)
    except OSError as error:
        raise PixelLLMError(
            f"--write-document-frequencies {path} cannot be written: {error.strerror}. Name another file."
        ) from error
    print(f"document frequencies: {path}")
