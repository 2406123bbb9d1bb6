"""What is asked of the gateway, and what its answers mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import orjson

from app.egress.client import Egress
from app.egress.outcomes import Answer, Outbound
from app.rules.errors import Code

#: A developer's own machine and its neighbours: nobody else chooses what is called from here.
ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

_SECONDS = 15.0
LARGEST = 2**20  # bytes of an answer

_NO_CURSOR = (
    "--after: this is no cursor of your tenant's log: take the `cursor` of an event (`--json` shows it) or "
    "`auditLog { pageInfo { endCursor } }`; leave it out to begin now"
)


class Stopped(Exception):
    """Listening is over, and asking again would not help. Its text is one line for whoever started it."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway and a key for it. `url` ends without a slash."""

    url: str
    key: str = field(repr=False)

    def request(self, query: str, variables: Mapping[str, object], **headers: str) -> Outbound:
        """An operation, as a request."""
        body = orjson.dumps({"query": query, "variables": variables})
        ours = [("Content-Type", "application/json"), ("X-API-Key", self.key)]
        return Outbound("POST", f"{self.url}/graphql", [*ours, *headers.items()], body)


async def ask(egress: Egress, gateway: Gateway, query: str, **variables: object) -> Any:
    """The data of an operation. Raises Stopped."""
    out = gateway.request(query, variables, Accept="application/json")
    outcome = await egress.send(out, total=_SECONDS, idle=_SECONDS, limit=LARGEST)
    if not isinstance(outcome, Answer):
        raise Stopped(
            f"cannot reach a gateway at {gateway.url}: {outcome.reason}; give its address with --url"
        )
    result = result_in(outcome.body)
    if result is None:
        raise Stopped(
            f"{gateway.url} is no Crossgrant gateway: it answered POST /graphql with status {outcome.status}; "
            "give the gateway's address with --url"
        )
    if errors := result.get("errors"):
        raise Stopped(refused(errors))
    return result["data"]


def result_in(body: bytes | str) -> dict[str, Any] | None:
    """The result of an operation, which has data or errors; None for what is none."""
    try:
        result = orjson.loads(body)
    except ValueError:
        return None
    if not isinstance(result, dict):
        return None
    errors = result.get("errors")
    if not errors:
        return result if isinstance(result.get("data"), dict) else None
    are = isinstance(errors, list) and all(isinstance(error, dict) for error in errors)
    return result if are else None


def code_in(errors: Sequence[Mapping[str, Any]]) -> str:
    """The code of the first error."""
    extensions = errors[0].get("extensions")
    return str(extensions.get("code", "")) if isinstance(extensions, dict) else ""


def printable(text: str) -> str:
    """Somebody's words for a terminal, which would obey some of them: control characters stand as they are written."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def refused(errors: Sequence[Mapping[str, Any]]) -> str:
    """What the gateway says, and what to do about it."""
    code, message = code_in(errors), str(errors[0].get("message"))
    if code == Code.BAD_USER_INPUT and message.startswith("after"):
        return _NO_CURSOR
    said = printable(f"the gateway says {code}: {message}")
    if code == Code.UNAUTHENTICATED:
        return f"{said}; give a key that lives with CROSSGRANT_API_KEY or --api-key"
    return said
