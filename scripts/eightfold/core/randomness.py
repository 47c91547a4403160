"""Random numbers keyed by what they are for, never by the order of calls."""

import numpy as np

from eightfold.core.files import digest


def seed_for(*keys: int | str) -> int:
    """A 63-bit seed that is a pure function of ``keys``, such as (seed, "dropout", stage, step)."""
    return int(digest(list(keys)), 16) & (2**63 - 1)


def generator(*keys: int | str) -> np.random.Generator:
    """A numpy generator whose stream is a pure function of ``keys``."""
    return np.random.Generator(np.random.Philox(seed_for(*keys)))
