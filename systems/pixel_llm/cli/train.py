"""`pixel-llm train DATA`: read the options, the data and the model, train, and leave a run folder worth looking at."""

import logging
import math
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from systems.pixel_llm.cli.bad_pictures import BadPictureList
from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.environment import write_environment
from systems.pixel_llm.cli.evaluation_summary import score_line
from systems.pixel_llm.cli.first_look import first_look
from systems.pixel_llm.cli.options import DEFAULT_EPOCHS, TrainCommand
from systems.pixel_llm.cli.reading import Sides, read_sides
from systems.pixel_llm.cli.report import report_run
from systems.pixel_llm.cli.run_folder import (
    make_run_folder,
    new_run_folder,
    recorded_data,
    resumed_run_folder,
    write_options,
)
from systems.pixel_llm.cli.samples import PanelFile, SamplePanel, write_pictures
from systems.pixel_llm.cli.settings_file import read_settings
from systems.pixel_llm.cli.signals import stop_on_signals
from systems.pixel_llm.cli.validation_scores import score_validation
from systems.pixel_llm.data import ImageCaptionDataset, make_loader
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.data.pixel_cache import PixelCache
from systems.pixel_llm.data.same_pictures import files_on_both_sides
from systems.pixel_llm.data.samples import SampleTable
from systems.pixel_llm.data.scan_cache import ScanCache
from systems.pixel_llm.errors import ConfigError, DatasetError
from systems.pixel_llm.evaluation.cider import FEW_PICTURES, caveat
from systems.pixel_llm.evaluation.data_record import DataRecord, write_data_record
from systems.pixel_llm.evaluation.result import EvaluationResult
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.evaluation.validation_scorer import ValidationScorer
from systems.pixel_llm.inference import find_checkpoint
from systems.pixel_llm.models import PixelLLM, load_weights_file
from systems.pixel_llm.models.config import PRESETS, PixelLLMConfig
from systems.pixel_llm.models.pretrained import CONFIG_FILE, EMBEDDING_NAME, WEIGHTS_FILE
from systems.pixel_llm.training import Trainer, find_batch_size
from systems.pixel_llm.training.options import TrainingOptions

__all__ = ["run"]

logger = logging.getLogger(__name__)


def run(command: TrainCommand) -> int:
    """Run the command; the exit status is 128 + n where signal n ended the training early, after saving."""
    device = chosen_device(command.run.device)
    if command.run.resume:
        folder, has_checkpoint = resumed_run_folder(command.run.out)
        if has_checkpoint:
            check_resumed(folder, command)
        else:
            logger.info("There is no checkpoint in %s yet: starting from the beginning.", folder.path)
    else:
        folder, has_checkpoint = new_run_folder(command.run.out, name=command.data[0].resolve().name), False
    with ScanCache(*command.data) as cache:
        sides = read_data(command, cache)
        # A run that goes on has been told.
        bad = () if has_checkpoint else first_look(command, sides.train, sides.validation, cache)
    torch.manual_seed(command.training.seed)
    model = make_model(command, may_start_elsewhere=not has_checkpoint)
    command = replace(command, model=model.config)
    if has_checkpoint:
        command = with_recorded_batch_size(command, folder)
    bad_pictures = BadPictureList(
        folder.bad_pictures,
        num_pictures=len(sides.train) + len(sides.validation),
        max_share=command.dataset.max_bad_share,
    )
    trainer = make_trainer(command, model, folder, sides, bad_pictures, device=device)
    # As a number, where it was to be found: a resumed run takes the same.
    command = replace(command, dataset=replace(command.dataset, batch_size=trainer.train_loader.batch_size))
    make_run_folder(folder)  # only now, so that a mistyped name leaves no empty folder behind
    if has_checkpoint:
        info = trainer.resume()
        logger.info("Resuming %s at checkpoint %s, step %d.", folder.path, info["name"], trainer.state.step)
    write_options(folder, command)  # before all else: by this file --resume knows a run that was stopped here
    bad_pictures.foresee(bad)
    write_environment(folder.environment, device)
    write_data_record(record_of(command.data, sides), folder.path)
    logger.info(
        "%s parameters on %s, %s; %s pictures to train on%s, %s to validate on; run folder %s",
        f"{sum(parameter.numel() for parameter in model.parameters()):,}", device, trainer.precision,
        f"{len(sides.train):,}", sides.told_epoch, f"{len(sides.validation):,}", folder.path,
    )  # fmt: skip
    epochs = command.run.epochs
    if epochs is None and command.training.max_steps is None and command.training.max_minutes is None:
        epochs = DEFAULT_EPOCHS
    steps_before = trainer.state.step
    with stop_on_signals(trainer.request_stop) as stopped_by:
        trainer.train(epochs)
    if trainer.state.step == 0:
        logger.info("Stopped before the first step: there is nothing to save.")
    else:
        if trainer.state.step == steps_before and not stopped_by:
            logger.info("To train on, resume with a higher --epochs, --max-steps or --max-minutes.")
        try:
            show_run(command, folder, sides, trainer, stopped_by, device=device)
        except KeyboardInterrupt:
            logger.warning(
                "Training is done and the run is whole. For what is missing: pixel-llm train %s --out %s --resume",
                spelled(command.data), quote(str(folder.path)),
            )  # fmt: skip
            raise
    return 128 + stopped_by[0] if stopped_by else 0


def show_run(
    command: TrainCommand,
    folder: RunFolder,
    sides: Sides,
    trainer: Trainer,
    stopped_by: list[int],
    *,
    device: torch.device,
) -> None:
    """Score the run, make what there is to look at, and tell of it. A signal leaves out what it comes to first."""
    result = None
    if not stopped_by:
        result = score_validation(
            folder, sides, data=command.data, device=device, num_workers=command.dataset.num_workers
        )
    # Who presses Ctrl-C wants to see what came of it; who is about to be ended has no time for it.
    is_looked_at = stopped_by in ([], [signal.SIGINT])
    has_pictures = is_looked_at and picture_run(folder, sides.validation or sides.train, device=device)
    has_report = is_looked_at and report_run(folder, device=device)
    tell_end(folder, command, trainer, result, stopped_by, has_pictures=has_pictures, has_report=has_report)


def picture_run(folder: RunFolder, samples: SampleTable, *, device: torch.device) -> bool:
    """Write the contact sheet and the curve of a run that has just ended; whether they are there."""
    try:
        write_pictures(folder, samples, title=f"{folder.path.name}: validation pictures", device=device)
    except KeyboardInterrupt:
        logger.warning("The contact sheet was stopped; the run is whole.")
        return False
    return True


def check_resumed(folder: RunFolder, command: TrainCommand) -> None:
    """What a resumed run cannot change is refused, what it hardly means to change is warned of.

    Raises:
        ConfigError: the model asked for is not that of the run.
    """
    recorded = read_settings(folder.options) if folder.options.is_file() else {}
    in_run = replace(command.model, **{name: value for name, value in recorded.items() if hasattr(command.model, name)})
    asked, has = spelled_out(command.model), spelled_out(in_run)
    for name in asked:
        if asked[name] != has[name]:
            raise ConfigError(
                f"--resume continues the model in {folder.path}, which has {name}={has[name]}, not "
                f"{name}={asked[name]}. Leave {name} as it was, or start another run with another --out."
            )
    data = recorded_data(folder)
    if data is not None and data != tuple(each.resolve() for each in command.data):
        logger.warning(
            "This run was started on %s; from here on it trains on %s.", spelled(data), spelled(command.data)
        )


def with_recorded_batch_size(command: TrainCommand, folder: RunFolder) -> TrainCommand:
    """The batch size that the run was begun with, in the place of "auto": another one would be another order."""
    recorded = read_settings(folder.options).get("batch_size") if folder.options.is_file() else None
    if command.dataset.batch_size != "auto" or recorded is None:
        return command
    logger.info("batch_size auto: %s, as found when the run was begun.", recorded)
    return replace(command, dataset=replace(command.dataset, batch_size=recorded))


def spelled(folders: Sequence[Path]) -> str:
    """The folders as the words of a command line."""
    return " ".join(quote(str(folder)) for folder in folders)


def spelled_out(config: PixelLLMConfig) -> dict[str, Any]:
    """The sizes that a checkpoint and a model must share, defaults filled in: not what is dropped, nor a ceiling."""
    derived = {
        "image_size": config.image_height_width,
        "vision_num_heads": config.vision_heads,
        "text_embed_dim": config.text_width,
        "text_num_heads": config.text_heads,
    }
    return {
        name: value for name, value in (config.to_dict() | derived).items() if name not in ("dropout", "vocab_size")
    }


def read_data(command: TrainCommand, cache: ScanCache | None = None) -> Sides:
    """Samples to train on and to validate on; the latter may be none where there is one picture alone.

    Raises:
        DatasetError: a folder, manifest or its content cannot be used, or a picture would be on both sides.
    """
    options = command.dataset
    sides = read_sides(
        command.data, options, val=command.run.val, val_manifest=options.val_manifest,
        fraction=options.validation_fraction, cache=cache or ScanCache(),
    )  # fmt: skip
    if not sides.is_held_back:
        check_sides(sides)
    return sides


def record_of(data: Sequence[Path], sides: Sides) -> DataRecord:
    """The data of the run in names and numbers."""
    return DataRecord(
        folders=tuple(folder.resolve().name for folder in data),
        num_train_pictures=len(sides.train),
        num_train_captions=len(sides.train.captions),
        num_validation_pictures=len(sides.validation),
        num_validation_captions=len(sides.validation.captions),
        is_held_back=sides.is_held_back,
        is_divided_by_looks=sides.is_divided_by_looks,
    )


def check_sides(sides: Sides) -> None:
    """Raises DatasetError where a picture file is on both."""
    if shared := set(files_on_both_sides(sides.train.names, sides.validation.names)):
        raise DatasetError(
            f"{len(shared)} pictures are in the training and in the validation data, first {shown(min(shared))}. A "
            "score on them would mean nothing: take them out of one side."
        )


def make_model(command: TrainCommand, *, may_start_elsewhere: bool) -> PixelLLM:
    """The model of the options, or that of `--init-from`."""
    if command.run.init_from is None or not may_start_elsewhere:
        return PixelLLM(command.model)
    if is_weights_alone(command.run.init_from):
        model = PixelLLM(command.model)
        # Which token a row of the table stands for, the file does not say.
        load_weights_file(model, command.run.init_from, ignored={EMBEDDING_NAME})
        logger.info("Starting from the weights in %s, but for the embeddings of tokens.", command.run.init_from)
        return model
    path = find_checkpoint(command.run.init_from)
    model = PixelLLM.from_pretrained(path)
    logger.info("Starting from the weights and the tokenizer in %s; the model's settings are those it has.", path)
    asked, has = spelled_out(command.model), spelled_out(model.config)
    default = spelled_out(PixelLLMConfig(**PRESETS[command.run.preset]))
    unheard = [name for name in asked if asked[name] != default[name] and asked[name] != has[name]]
    if unheard:
        name = unheard[0]
        logger.warning("%s=%s is not what that model has (%s) and has no effect.", name, asked[name], has[name])
    return model


def is_weights_alone(path: Path) -> bool:
    """Whether `path` is a file, or a folder with a file of weights that has no settings of the model beside it."""
    return path.is_file() or ((path / WEIGHTS_FILE).is_file() and not (path / CONFIG_FILE).exists())


def make_trainer(
    command: TrainCommand,
    model: PixelLLM,
    folder: RunFolder,
    sides: Sides,
    bad_pictures: BadPictureList,
    *,
    device: torch.device,
) -> Trainer:
    """A Trainer over loaders of these samples, writing into the run folder."""
    size = model.config.image_height_width
    cache: PixelCache | None = None
    if command.dataset.cache:
        # Both sides in one file: another split of the same pictures finds them there.
        samples = SampleTable.joined([sides.train, sides.validation])
        cache = PixelCache.on_disk(samples, size)
    if cache is not None:
        there = f"{cache.num_filled:,} of {len(samples):,}"
        logger.info("Decoded pictures are kept in %s: %s are there already.", cache.path, there)

    def make_dataset(samples: SampleTable, *, first: int, augment: str) -> ImageCaptionDataset:
        kept = False if cache is None else cache.part(range(first, first + len(samples)))
        return ImageCaptionDataset(
            command.data[0],
            samples=samples,
            image_size=size,
            seed=command.training.seed,
            augment=augment,
            on_bad_sample=command.dataset.on_bad_sample,
            caption_choice=command.dataset.caption_choice,
            cache=kept,
        )

    batch_size, num_workers = command.dataset.batch_size, command.dataset.num_workers
    train_set = make_dataset(sides.train, first=0, augment=command.dataset.augment)
    if batch_size == "auto":
        batch_size = find_batch_size(
            model, train_set, device=device, weights=sides.train_weights, options=command.training
        )
    timeout = command.dataset.worker_timeout_seconds
    train_loader = make_loader(
        train_set,
        batch_size=batch_size,
        shuffle=True,
        num_workers=num_workers,
        weights=sides.train_weights,
        worker_timeout_seconds=timeout,
    )
    val_loader = None
    if sides.validation:
        val_loader = make_loader(
            make_dataset(sides.validation, first=len(sides.train), augment="none"),
            batch_size=batch_size,
            shuffle=False,
            num_workers=num_workers,
            worker_timeout_seconds=timeout,
        )
    options, scorer = judged(command, sides.validation)
    return Trainer(
        model,
        train_loader,
        val_loader,
        device=device,
        checkpoint_dir=folder.checkpoints,
        checkpoint_interval=command.run.checkpoint_interval,
        log_interval=command.run.log_interval,
        metrics_file=folder.metrics,
        callbacks=[bad_pictures, PanelFile(folder.panel)],
        scorer=scorer,
        panel=SamplePanel(sides.validation),
        options=options,
    )


def judged(command: TrainCommand, validation: SampleTable) -> tuple[TrainingOptions, ValidationScorer | None]:
    """The options of training, and what scores captions at validations.

    With few pictures CIDEr-D would be chance: it is left out, and best is by the loss, unless it was asked for.
    """
    options = command.training
    if not validation:
        return options, None
    if options.metric != "cider_d" and len(validation) < FEW_PICTURES:
        return options.replaced(metric="val_loss"), ValidationScorer(validation, with_cider_d=False)
    if (warning := caveat(len(validation))) is not None:
        logger.warning("The best checkpoint is chosen by metric='cider_d'. %s", warning)
    return options, ValidationScorer(validation)


def tell_end(
    folder: RunFolder,
    command: TrainCommand,
    trainer: Trainer,
    result: EvaluationResult | None,
    stopped_by: list[int],
    *,
    has_pictures: bool,
    has_report: bool,
) -> None:
    """What came of it, on stdout; what to type next, on stderr."""
    history = trainer.get_history()
    if history["val_losses"]:
        print(f"best validation loss: {min(filter(math.isfinite, history['val_losses']), default=math.nan):.4f}")
        if history["cider_d"] and result is None:  # else the same, on more pictures, is told below
            print(f"best CIDEr-D on a part of the validation pictures: {max(history['cider_d']):.4f}")
    elif history["train_losses"]:
        print(f"training loss: {history['train_losses'][-1]:.4f}")
    if result is not None:
        print(score_line(result))
        print(f"captions and scores: {folder.evaluation}")
    if has_pictures:
        print(f"contact sheet: {folder.samples}")
        print(f"training curve: {folder.curve}")
    if has_report:
        print(f"report: {folder.report}")
    if trainer.bad_pictures:
        logger.warning(
            "%d pictures could not be read and were left out: %s lists them.",
            len(trainer.bad_pictures), folder.bad_pictures,
        )  # fmt: skip
    if trainer.stop_reason == "interrupted":
        logger.info(
            "Stopped early, so there are no scores%s. To go on: pixel-llm train %s --out %s --resume",
            "" if has_pictures else " and no pictures", spelled(command.data), quote(str(folder.path)),
        )  # fmt: skip
    logger.info("To caption: pixel-llm caption %s PICTURE...", quote(str(folder.path)))
