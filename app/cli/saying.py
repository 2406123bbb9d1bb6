"""What is said to whoever typed a command: on stderr, for stdout is for programs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from app.rules.tokens import redacted


def say(line: str) -> None:
    """One line, in which no secret is repeated: keys are pasted where ids belong."""
    print(f"crossgrant: {redacted(line)}", file=sys.stderr)


def fail(message: str) -> NoReturn:
    """The last line: it ends with code 2."""
    say(message)
    sys.exit(2)


@contextmanager
def told(*errors: type[Exception]) -> Iterator[None]:
    """Of these errors the text is all that anybody needs."""
    try:
        yield
    except errors as error:
        fail(str(error))
