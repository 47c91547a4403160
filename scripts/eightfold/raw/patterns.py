"""A user's regular expression on many names, with a bound on the time that one name may take."""

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator

from eightfold.core.files import UserError

SECONDS = 5.0  # for one name; a sound expression takes microseconds


class _TooLong(Exception):
    pass


@contextlib.contextmanager
def searching(pattern: str, seconds: float = SECONDS) -> Iterator[Callable[[str], re.Match | None]]:
    """`re.search` of a pattern, for use within the block. It raises UserError that names the text which takes longer than that:
    `(a+)+b` tries 2^n ways on n letters.

    The bound is a timer's signal, which Python asks for while it matches, so it holds in the main thread; elsewhere there is none.
    """
    compiled = re.compile(pattern)
    if threading.current_thread() is not threading.main_thread():
        yield compiled.search
        return

    def stop(signum, frame) -> None:
        raise _TooLong

    def search(text: str) -> re.Match | None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return compiled.search(text)
        except _TooLong:
            raise UserError(
                f"data.pattern: {pattern!r} takes more than {seconds:g} s on the name {text!r}; a repeat within a repeat, such as "
                "(a+)+, tries every way to part a name: write it without one"
            ) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        yield search
    finally:
        signal.signal(signal.SIGALRM, before)
