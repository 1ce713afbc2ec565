"""`pixel-llm demo`: the whole job on drawn shapes, and how well it went on shapes that training never showed."""

import logging
import signal
from collections.abc import Sequence
from shlex import quote
from typing import Any

import torch

from systems.pixel_llm.cli.demo_pictures import draw_kept_pictures, score_kept_pictures
from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.environment import write_environment
from systems.pixel_llm.cli.options import LEARNING_RATES, DemoOptions
from systems.pixel_llm.cli.report import report_run
from systems.pixel_llm.cli.run_folder import make_run_folder, new_run_folder
from systems.pixel_llm.cli.samples import PanelFile, SamplePanel
from systems.pixel_llm.cli.settings_file import write_settings
from systems.pixel_llm.cli.signals import stop_on_signals
from systems.pixel_llm.data import ShapesDataset, make_loader
from systems.pixel_llm.evaluation.data_record import DataRecord, write_data_record
from systems.pixel_llm.evaluation.exact_match import exact_match
from systems.pixel_llm.evaluation.figures import CaptionedPicture, contact_sheet, training_curve
from systems.pixel_llm.evaluation.run_files import RunFolder
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.metrics_log import read_metrics

__all__ = ["run"]

logger = logging.getLogger(__name__)

PICTURES_AN_EPOCH = 20_000
BATCH_SIZE = 32
MAX_SEQ_LEN = 48
LOG_INTERVAL = 50
NUM_VALIDATION = 256
# What is scored: split -> what its line says before and after the number.
SCORED = {
    "combinations": ("exact match", " (held-out combinations, one object)"),
    "two": ("two objects", ""),
    "pairs": ("unseen colour-shape pairs", ""),
}
NUM_SHOWN = {"combinations": 8, "two": 4, "pairs": 4}


def run(options: DemoOptions) -> int:
    """Run the command; the exit status is 128 + n where signal n ended the training early."""
    device = chosen_device(options.device)
    folder = new_run_folder(options.out, name="demo")
    make_run_folder(folder)
    write_environment(folder.environment, device)
    write_data_record(data_of_demo(), folder.path)
    write_settings(folder.options, settings_of(options), defaults={})
    trainer = make_demo_trainer(options, folder, device)
    logger.info(
        "Learning from freshly drawn pictures for %g minutes; then captioning pictures of combinations never shown.",
        options.max_minutes,
    )
    with stop_on_signals(trainer.request_stop) as stopped_by:
        trainer.train()
    # Who presses Ctrl-C wants to see what came of it; who is about to be ended has no time for it.
    if trainer.state.step > 0 and stopped_by in ([], [signal.SIGINT]):
        score(folder, options, device)
    return 128 + stopped_by[0] if stopped_by else 0


def data_of_demo() -> DataRecord:
    """What a demo trains and validates on, in names and numbers: one caption a picture."""
    return DataRecord(
        folders=("drawn shapes",),
        num_train_pictures=PICTURES_AN_EPOCH,
        num_train_captions=PICTURES_AN_EPOCH,
        num_validation_pictures=NUM_VALIDATION,
        num_validation_captions=NUM_VALIDATION,
        is_held_back=False,
        is_divided_by_looks=False,
    )


def settings_of(options: DemoOptions) -> dict[str, Any]:
    """The settings of a demo's run, by the names that `train` has for them."""
    return {
        "preset": "tiny",
        "max_seq_len": MAX_SEQ_LEN,
        "dropout": 0.0,
        "batch_size": BATCH_SIZE,
        "log_interval": LOG_INTERVAL,
        "learning_rate": LEARNING_RATES["tiny"],
        "max_minutes": options.max_minutes,
        "seed": options.seed,
    }


def make_demo_trainer(options: DemoOptions, folder: RunFolder, device: torch.device) -> Trainer:
    """The `tiny` preset on fresh pictures every epoch, validated on held-out combinations of one object."""
    torch.manual_seed(options.seed)
    model = create_pixel_llm("tiny", max_seq_len=MAX_SEQ_LEN, dropout=0.0)
    kept = draw_kept_pictures(folder, seed=options.seed + 3)
    train = ShapesDataset(PICTURES_AN_EPOCH, split="train", seed=options.seed)
    validation = ShapesDataset(NUM_VALIDATION, split="combinations", seed=options.seed + 1, fresh_each_epoch=False)
    return Trainer(
        model,
        make_loader(train, batch_size=BATCH_SIZE, shuffle=False),
        make_loader(validation, batch_size=BATCH_SIZE, shuffle=False),
        device=device,
        checkpoint_dir=folder.checkpoints,
        metrics_file=folder.metrics,
        log_interval=LOG_INTERVAL,
        callbacks=[PanelFile(folder.panel)],
        panel=SamplePanel(kept),
        max_minutes=options.max_minutes,
        learning_rate=LEARNING_RATES["tiny"],
        seed=options.seed,
    )


def score(folder: RunFolder, options: DemoOptions, device: torch.device) -> None:
    """Caption pictures of each split with the best checkpoint, print the scores, write what shows the run."""
    captioner = Captioner.from_checkpoint(folder.path, device=device)
    shown: list[CaptionedPicture] = []
    lines = []
    for split in SCORED:
        pictures = ShapesDataset(options.num_pictures, split=split, seed=options.seed + 2, fresh_each_epoch=False)
        captions: list[str] = []
        for batch in make_loader(pictures, batch_size=BATCH_SIZE, shuffle=False):
            captions += captioner.model.generate(batch["images"])
        references = pictures.captions
        lines.append(result_line(split, captions, references))
        for index in range(min(NUM_SHOWN[split], options.num_pictures)):
            shown.append(
                CaptionedPicture(
                    image=pictures.picture(index), caption=captions[index], references=(references[index],)
                )
            )
    for line in lines:
        print(line)
    contact_sheet(shown, folder.samples, title="Pictures of combinations that training never showed")
    training_curve(read_metrics(folder.metrics), folder.curve, title="Shapes")
    score_kept_pictures(folder, device)
    has_report = report_run(folder, device=device)
    print(f"contact sheet: {folder.samples}")
    print(f"training curve: {folder.curve}")
    if has_report:
        print(f"report: {folder.report}")
    logger.info("To caption a picture of your own: pixel-llm caption %s PICTURE", quote(str(folder.path)))


def result_line(split: str, captions: Sequence[str], references: Sequence[str]) -> str:
    """What is printed of one split: the share of its pictures whose caption is right to the letter."""
    before, after = SCORED[split]
    return f"{before}: {100 * exact_match(captions, references):.1f} %{after}"
