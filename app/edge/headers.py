"""Headers that every answer has unless the endpoint chose otherwise."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

#: For every answer.
ALWAYS: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
#: For our own answers; an upstream's is cached as its owner says.
OWN: tuple[Header, ...] = (*ALWAYS, (b"cache-control", b"no-store"))


def completed(headers: Iterable[Header], defaults: Iterable[Header]) -> list[Header]:
    """`headers` and those of `defaults` whose name is not among them. Names are lower case, as ASGI has them."""
    answer = list(headers)
    present = {name for name, _ in answer}
    answer += [header for header in defaults if header[0] not in present]
    return answer
