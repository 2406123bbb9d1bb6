"""Ctrl-C: at once while modules are loaded, not at all while something is done that has to be told."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # as a shell calls what SIGINT has ended


@contextmanager
def loading() -> Iterator[None]:
    """Around imports: Ctrl-C ends the process at once.

    As an exception it would be raised in the middle of any module, and there are some that swallow it or make another
    one of it. Nothing has been done yet that would have to be put in order.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # whoever started us wants it ignored, as for a job in the background
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore() -> None:
    """From now on there is none: what the command does next it also says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
