"""One call out: what goes, and the four ways in which it ends.

    Answer      the peer's whole answer, of any status from 200 to 599
    NotSent     no byte of the request left this process: a reservation may be given back
    Unknown     bytes may have left and no whole answer was seen: it may have had its effect
    Rejected    the peer answered, and we refuse the answer: it has had its effect

A `reason` is for people and may be shown to either tenant: it names no address that a name resolved to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from multidict import CIMultiDictProxy

from app.rules.errors import Code


@dataclass(frozen=True, slots=True)
class Outbound:
    """One request. `method` is in capitals. `url` is absolute, ASCII and percent-encoded, without user name or fragment.

    Its path and query go on the wire as they are (but a lone `?` at the end is left out). Header values are text,
    sent as UTF-8. Headers that frame the message or concern the connection are ours: see `client.OURS`.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; redirects come as they are, `body` in whatever Content-Encoding the headers name.

    Header values hold no CR, LF or NUL, but perhaps other control characters (RFC 9110 section 5.5).
    `value.encode("utf-8", "surrogateescape")` gives the wire's bytes.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NotSent:
    """UPSTREAM_DENIED: we will not call this. UPSTREAM_UNREACHABLE: we could not."""

    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """UPSTREAM_TIMEOUT, or UPSTREAM_BROKEN: the connection failed or what came is no HTTP answer."""

    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """UPSTREAM_RESPONSE_TOO_LARGE: the answer's body is over the limit. `status` is the answer's."""

    code: Code
    reason: str
    status: int


Outcome = Answer | NotSent | Unknown | Rejected
