"""What a guard says to a request that it does not let through."""

from typing import NamedTuple

from app.rules.errors import Code


class Denial(NamedTuple):
    """Why a request was denied. `detail` is one sentence for people and repeats nothing of the body's content."""

    code: Code
    detail: str
