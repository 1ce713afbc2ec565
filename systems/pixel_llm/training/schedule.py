"""How the learning rate moves over a run: a warm-up, then a shape, as a pure function of where the run is.

Nothing here has a state or a clock, so a resumed run finds the rate that the unbroken one had, and a run bounded by
minutes ends its descent with its time, however many steps that turns out to be. No torch is loaded by this module.
"""

import math
from typing import Literal

__all__ = ["DEFAULT_WARMUP_FRACTION", "ScheduleName", "learning_rate_factor"]

ScheduleName = Literal["cosine", "linear", "constant", "wsd"]

DEFAULT_WARMUP_FRACTION = 0.05


def learning_rate_factor(
    progress: float,
    *,
    schedule: str,
    step: float = 0.0,
    warmup_fraction: float | None = None,
    warmup_steps: int | None = None,
    decay_fraction: float = 0.2,
    min_fraction: float = 0.0,
) -> float:
    """What the peak learning rate is multiplied by at one place of a run: 0..1, without a jump anywhere.

    From 0 it rises linearly to 1, the warm-up. What comes then, down to `min_fraction` at the end of the run:

    - "cosine": half a cosine (Loshchilov & Hutter 2017, SGDR, without restarts);
    - "linear": a straight line;
    - "constant": 1 to the end;
    - "wsd": warm-up, stable, decay (Hu et al. 2024, MiniCPM, section 4): 1 until the last `decay_fraction` of the run,
      then a straight line, or from the end of the warm-up on where that is later. A run is prolonged by resuming a
      checkpoint from before its decay.

    Args:
        progress: share of the run done; below 0 counts as 0, above 1 as 1.
        schedule: one of `ScheduleName`.
        step: optimizer steps done, for `warmup_steps`.
        warmup_fraction: the warm-up as a share of the run; 0 where neither this nor `warmup_steps` is given.
        warmup_steps: the warm-up as exactly so many steps, also where a bound in minutes leaves open how many steps the
            run will have. The share that they take is then estimated from the pace so far, `progress / step`, which in
            a run bounded by steps is exact.
        decay_fraction: share of the run that "wsd" decays over.
        min_fraction: where the descent ends. The warm-up begins at 0 all the same.
    """
    progress = min(max(progress, 0.0), 1.0)
    if warmup_steps:
        warmed = step / warmup_steps
        warmup_end = progress / warmed if warmed > 0 else 1.0
    else:
        warmup_end = warmup_fraction or 0.0
        warmed = progress / warmup_end if warmup_end > 0 else 1.0
    if warmed < 1.0:
        return max(warmed, 0.0)
    descent_start = max(warmup_end, 1.0 - decay_fraction) if schedule == "wsd" else warmup_end
    if schedule == "constant" or progress <= descent_start:
        return 1.0
    descended = (progress - descent_start) / (1.0 - descent_start)
    left = 0.5 * (1.0 + math.cos(math.pi * descended)) if schedule == "cosine" else 1.0 - descended
    return min_fraction + (1.0 - min_fraction) * left
