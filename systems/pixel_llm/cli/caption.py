r"""`pixel-llm caption RUN PICTURE...`: a line a picture on stdout. A bad picture is told on stderr, the others go on.

It is one line and one tab a picture, whatever a model says or a file is called: a tab in a name is shown as `\t`.
"""

import sys
from typing import Any

from systems.pixel_llm.cli.device import chosen_device
from systems.pixel_llm.cli.lines import escaped, one_line
from systems.pixel_llm.cli.options import CaptionOptions
from systems.pixel_llm.errors import DatasetError
from systems.pixel_llm.inference import Captioner

__all__ = ["run"]


def run(options: CaptionOptions) -> int:
    """Run the command; the exit status is 1 where a picture could not be read."""
    captioner = Captioner.from_checkpoint(options.run, device=chosen_device(options.device))
    num_bad = 0
    for start in range(0, len(options.pictures), options.batch_size):
        num_bad += _caption_batch(captioner, options, start)
    return 1 if num_bad else 0


def _caption_batch(captioner: Captioner, options: CaptionOptions, start: int) -> int:
    """Print the captions of one batch; return how many pictures could not be read."""
    paths, images = [], []
    num_bad = 0
    for path in options.pictures[start : start + options.batch_size]:
        try:
            images.append(captioner.open(path))
        except DatasetError as error:
            print(f"pixel-llm: {error}", file=sys.stderr)
            num_bad += 1
        else:
            paths.append(path)
    if images:
        settings: dict[str, Any] = {} if options.max_length is None else {"max_length": options.max_length}
        captions = captioner.caption(images, batch_size=len(images), **settings)
        for path, caption in zip(paths, captions, strict=True):
            print(f"{escaped(str(path))}\t{one_line(caption)}", flush=True)
    return num_bad
