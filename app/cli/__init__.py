"""`crossgrant`, the command line. What fails says so in one line and exits with 2.

Ctrl-C ends a command without a word and with 130. Where `serve` and `listen` have begun it is the way in which
they end, with 0; and what a command begins to write it ends, and tells.

commands    what can be typed. What does it is loaded when it is called: all of it together takes seconds
typed       what is typed wrong
interrupts  Ctrl-C: when it counts, and how
saying      what is said to whoever typed it, on stderr
store       a command's time with the store, and what it prints of it
serving     `crossgrant serve`
tenants     `crossgrant tenant`
keys        `crossgrant key`
agents      `crossgrant agent`
"""

import sys
from io import TextIOWrapper

from app.cli.interrupts import INTERRUPTED, loading


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have the letters of a name
    try:
        with loading():
            from app.cli.commands import cli
            from app.cli.typed import run
        run(cli)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
