"""How the config names networks and their weights: a+b are two networks as one, and weights may be a file or a package's."""

import os
from collections.abc import Sequence

TOGETHER = "+"  # between the names of several networks
PACKAGE = "package:"  # before the name of an installed package that holds weights


def networks_of(arch: str, weights: str | Sequence[str]) -> list[tuple[str, str]]:
    """(arch, weights) of each network of ``arch``; weights: one for all of them, or one for each."""
    names = arch.split(TOGETHER)
    each = [weights] if isinstance(weights, str) else list(weights)
    return list(zip(names, each * len(names) if len(each) == 1 else each, strict=True))


def is_path(weights: str) -> bool:
    """Whether weights are the path of a file, and neither a name nor a package's."""
    return not weights.startswith(PACKAGE) and (os.sep in weights or "." in weights)
