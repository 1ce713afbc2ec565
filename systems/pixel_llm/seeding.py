"""Randomness as a pure function of where we are, so that a resumed run draws what the unbroken run would have drawn.

Everything random in a run (order, caption choice, augmentation, dropout) draws from a generator seeded by
`derive_seed(purpose, seed, epoch, sample)` or `derive_seed(purpose, seed, step)`: the number of workers, prefetching
and the instant of a kill then cannot matter. Layer 0: standard library only.
"""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(purpose: str, *coordinates: int) -> int:
    """A seed in [0, 2**63) for one purpose at one place of a run; a different purpose or place gives an unrelated one.

    Stable across processes, machines and Python versions (unlike `hash`): the first 8 bytes of the BLAKE2b digest of
    the arguments' text, without the top bit, which `torch.manual_seed` and `numpy` seeds do not take.
    """
    text = ":".join([purpose, *(str(int(coordinate)) for coordinate in coordinates)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
