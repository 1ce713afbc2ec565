"""`pixel-llm caption RUN PICTURE...`: find the pictures, leave out those that are done, caption the rest in batches.

What is named becomes pictures in `picture_arguments` (with `--watch`, over and over, in `watching`), captions are made
in `inference/picture_files` and kept by one of the `caption_writers`. Between them stands `_Captioning`: it passes each
picture through once, counts, and remembers the bad ones for the list at the end.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from systems.pixel_llm.cli.caption_manifest import Manifest
from systems.pixel_llm.cli.caption_options import CaptionOptions
from systems.pixel_llm.cli.caption_progress import shown_captioning
from systems.pixel_llm.cli.caption_rows import CsvRows, JsonRows, LineRows, RowForm
from systems.pixel_llm.cli.caption_text_files import TextFiles
from systems.pixel_llm.cli.caption_writers import AppendedRows, CaptionWriter, PrintedRows
from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.cli.output_file import write_whole
from systems.pixel_llm.cli.picture_arguments import NamedPictures, find_pictures
from systems.pixel_llm.cli.signals import stop_on_signals
from systems.pixel_llm.cli.watching import FolderWatch
from systems.pixel_llm.data.folder import shown
from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.inference import Captioner, caption_files
from systems.pixel_llm.inference.picture_files import CaptionedPicture, UnreadPicture

__all__ = ["run"]

logger = logging.getLogger(__name__)

NUM_BAD_TOLD = 10
BAD_SUFFIX = ".bad"
"""FILE.bad: path, tab, reason. No format of captioned pictures takes a file of that name for one of its own."""
LONGEST_SLEEP_SECONDS = 0.1


def run(options: CaptionOptions) -> int:
    """Run the command.

    Returns:
        1 where a picture could not be captioned, 128 + n where signal n ended it, watching included, else 0.
    """
    named = find_pictures(options.pictures, null_separated=options.null, may_be_empty=options.watch)
    if options.watch and not named.folders:
        raise ConfigError("--watch looks for new pictures in folders: name at least one.")
    writer = make_writer(options)
    try:
        captioner = Captioner.from_checkpoint(options.run, device=chosen_device(options.device))
        captioning = _Captioning(captioner, writer, options)
        with stop_on_signals(captioning.request_stop, promise="stopping after this batch") as stopped_by:
            captioning.note_unreadable(named)
            if options.watch:
                _watch(captioning, named, options)
            else:
                captioning.caption(named.paths)
    finally:
        writer.close()
    captioning.tell_end(is_stopped=bool(stopped_by))
    if stopped_by:
        return 128 + stopped_by[0]
    return 1 if captioning.bad else 0


def make_writer(options: CaptionOptions) -> CaptionWriter:
    """The way to keep captions that the options ask for.

    Raises:
        DatasetError: --output holds something else, or cannot be read or written.
    """
    num_captions = options.generation.num_return_sequences
    if options.form == "txt":
        return TextFiles(overwrite=options.overwrite)
    if options.form == "manifest":
        assert options.output is not None, "checked by CaptionOptions"
        return Manifest(options.output, is_list=num_captions > 1, overwrite=options.overwrite)
    forms: dict[str, RowForm] = {
        "lines": LineRows(),
        "jsonl": JsonRows(is_list=num_captions > 1),
        "csv": CsvRows(num_captions=num_captions),
    }
    form = forms[options.form]
    return (
        PrintedRows(form) if options.output is None else AppendedRows(options.output, form, overwrite=options.overwrite)
    )


class _Captioning:
    """Pictures through the model and to the writer, with what a person wants to know of it."""

    def __init__(self, captioner: Captioner, writer: CaptionWriter, options: CaptionOptions) -> None:
        self._captioner, self._writer, self._options = captioner, writer, options
        self._generator = torch.Generator(captioner.model.device).manual_seed(options.seed)
        self._is_stop_requested = False
        self._num_captioned = self._num_told = self._num_done_before = self._num_left = 0
        self.bad: dict[Path, str] = {}
        """Picture, or folder, that could not be read -> why."""

    def request_stop(self) -> None:
        """Stop after the batch under way."""
        self._is_stop_requested = True

    def is_stop_requested(self) -> bool:
        """Whether `request_stop` was called."""
        return self._is_stop_requested

    def note_unreadable(self, named: NamedPictures) -> None:
        """Take in the folders that could not be looked into."""
        self.bad |= named.unreadable

    def caption(self, paths: Sequence[Path]) -> list[UnreadPicture]:
        """Caption those that are not done; gives back those that cannot be read."""
        waiting = self._not_done(paths)
        unread: list[UnreadPicture] = []
        num_through = 0
        with shown_captioning(
            len(waiting), progress=self._options.progress, is_printing=not self._writer.is_kept
        ) as advance:
            for outcomes in caption_files(
                self._captioner,
                waiting,
                batch_size=self._options.batch_size,
                num_workers=self._options.num_workers,
                options=self._options.generation,
                generator=self._generator,
            ):
                captioned = [each for each in outcomes if isinstance(each, CaptionedPicture)]
                unread += [each for each in outcomes if isinstance(each, UnreadPicture)]
                if captioned:
                    self._writer.write(captioned)
                for each in captioned:
                    self.bad.pop(each.path, None)
                self._num_captioned += len(captioned)
                num_through += len(outcomes)
                advance(len(outcomes))
                if self._is_stop_requested:
                    break
        self._writer.settle()
        self._num_left += len(waiting) - num_through
        self.bad |= {each.path: each.reason for each in unread}
        return unread

    def tell_so_far(self) -> None:
        """A line where captions are not seen themselves."""
        if self._writer.is_kept and self._num_captioned != self._num_told:
            self._num_told = self._num_captioned
            logger.info("%s captioned so far.", _count(self._num_captioned))

    def tell_end(self, *, is_stopped: bool) -> None:
        """What came of it, on stderr; little where captions were printed and all went well."""
        if self.bad:
            self._tell_bad()
        if not is_stopped or self.bad:  # one that was stopped may not have come to those of the last call
            self._keep_bad()
        if self._writer.is_kept or is_stopped:
            done_before = f", {_count(self._num_done_before)} done before" if self._num_done_before else ""
            bad = f", {_count(len(self.bad))} bad" if self.bad else ""
            left = f", {_count(self._num_left)} left" if self._num_left else ""
            logger.info("%s captioned%s%s%s.", _count(self._num_captioned), done_before, bad, left)
        if is_stopped and self._num_left and self._writer.is_kept:
            if not self._options.overwrite:
                logger.info("Stopped early. To go on, type the same command again.")
            elif self._options.form == "txt":
                logger.info("Stopped early. The same command starts over; without --overwrite, what is there stays.")
            else:
                logger.info("Stopped early. To go on, type the same command without --overwrite, which starts over.")

    def _not_done(self, paths: Sequence[Path]) -> list[Path]:
        """Those to caption; what the output cannot hold is noted as bad, what it holds is counted."""
        objections = {path: objection for path in paths if (objection := self._writer.objection(path)) is not None}
        possible = [path for path in paths if path not in objections]
        waiting = [path for path in possible if not self._writer.is_done(path)]
        self.bad |= objections
        if num_done := len(possible) - len(waiting):
            self._num_done_before += num_done
            logger.info("%s of %s are done already.", _count(num_done), _count(len(paths)))
        return waiting

    def _tell_bad(self) -> None:
        print(f"pixel-llm: {_pictures(len(self.bad))} could not be captioned:", file=sys.stderr)
        told = list(self.bad.values())[: NUM_BAD_TOLD if self._options.output else None]
        for reason in told:
            print(f"  {reason}", file=sys.stderr)
        if self._options.output is not None and len(self.bad) > len(told):
            print(f"  ... and {_count(len(self.bad) - len(told))} more", file=sys.stderr)

    def _keep_bad(self) -> None:
        """The list of bad pictures beside --output, as it is after this call; none where there are none."""
        if self._options.output is None:
            return
        file = self._options.output.with_name(self._options.output.name + BAD_SUFFIX)
        if self.bad:
            lines = (f"{escaped(str(path))}\t{one_line(reason)}\n" for path, reason in self.bad.items())
            write_whole(file, "".join(lines), is_synced=False)
            logger.info("All bad ones are listed in %s.", shown(file))
        else:
            file.unlink(missing_ok=True)


def _watch(captioning: _Captioning, named: NamedPictures, options: CaptionOptions) -> None:
    """Caption what is named, then what comes into the folders, until a signal."""

    def wait(seconds: float) -> None:
        sleep_until_stopped(seconds, captioning.is_stop_requested)

    watch = FolderWatch(
        named.folders,
        seconds=options.watch_seconds,
        wait=wait,
        should_stop=captioning.is_stop_requested,
        given=named.files,
    )
    logger.info("Watching %s; Ctrl-C ends it.", ", ".join(map(shown, named.folders)))
    if named.files:
        captioning.caption(list(dict.fromkeys(named.files)))
    for paths in watch:
        for unread in captioning.caption(paths):
            if not watch.could_not_read(unread.path):
                logger.warning("%s It is tried again when it changes.", unread.reason)
        captioning.tell_so_far()


def sleep_until_stopped(seconds: float, should_stop: Callable[[], bool]) -> None:
    """Sleep, in short pieces: Python goes on sleeping after a signal that was handled."""
    end = time.monotonic() + seconds
    while not should_stop() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LONGEST_SLEEP_SECONDS))


def _count(number: int) -> str:
    return f"{number:,}"


def _pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number:,} pictures"
