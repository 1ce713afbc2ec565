"""The global generators of Python, numpy and torch, seeded for a while: for code of the user's that draws from them.

A transform or a loader may draw from any of the three. Seeded by the place in the run, they give the same after a
resume; put back afterwards, they do not disturb the user's own program. Layer 1.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seeded_global_generators"]


@contextmanager
def seeded_global_generators(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators seeded inside, and afterwards as they were.

    Of torch only the generator of the CPU: `torch.manual_seed` would reach into the GPU's, which draws dropout.
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
