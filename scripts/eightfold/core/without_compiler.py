"""torch without its compiler, which this project does not use. Only this module leans on `torch._dynamo`, a private part of torch.

torchvision, the meta device and torch's optimizers import the compiler to have it leave their functions alone. Measured for
torch 2.15.0 and torchvision 0.29.2 on two cores of a Xeon, three runs each: a trunk's outline takes 0.5 s and 590 MB instead
of 1.2 s and 701 MB, an optimizer 534 MB instead of 680 MB and nothing instead of 0.9 s. `import torch` itself takes 1.1 s.
"""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator

_NAMES = ("torch._dynamo", "torch._dynamo.utils")
_ANSWERS = {
    "disable": lambda function, *given, **named: function,  # nothing is compiled, so nothing has to be left alone
    "graph_break": lambda: None,
    "is_compile_supported": lambda kind: False,
}


class _Answers(types.ModuleType):
    """A module in place of the compiler. What it has no answer to is looked up in the compiler, which is then imported."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _ANSWERS:
            return _ANSWERS[name]
        _remove_answers()
        return getattr(importlib.import_module(self.__name__), name)


def _remove_answers() -> None:
    for name in _NAMES:
        if isinstance(sys.modules.get(name), _Answers):
            del sys.modules[name]


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Within the block the compiler is not imported, unless it is there already. Afterwards it can be imported as ever."""
    if _NAMES[0] in sys.modules:  # the compiler, or the answers of a block around this one
        yield
        return
    sys.modules.update({name: _Answers(name) for name in _NAMES})
    try:
        yield
    finally:
        _remove_answers()
