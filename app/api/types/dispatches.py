"""What was done under a delegation, and what came back."""

import orjson
import strawberry

from app.api.context import Info
from app.api.described import column, field, given, object_type
from app.api.pages import Keyset, an_id
from app.api.scalars import JSON, Scope
from app.api.types.bindings import Binding
from app.api.types.delegations import Delegation
from app.api.types.enums import Outcome
from app.api.types.nodes import Connection, Node
from app.delegations.parts import bindings
from app.delegations.read import delegations
from app.proxy.answers import Answered
from app.rules.ids import Instant
from app.store import tables

#: Reading more would hold the loop: 10 MB of empty lists take half a second and 450 MB.
_MOST_PARTS = 500_000

DISPATCHES = Keyset("dispatch", an_id("dsp"))


@object_type
class Dispatch(Node):
    """One attempt to perform an action."""

    row: strawberry.Private[tables.Dispatch]

    scope: Scope | None = column("The scope that was used, where that is known.")
    outcome: Outcome = column("How it ended.")
    code: str | None = column("Why it did not complete: one of ErrorCode.")
    terms_version: int = column("The version of the terms that it was judged by.")
    requested_at: Instant = column("When it was asked for.")
    finished_at: Instant | None = column("When it ended.")
    upstream_status: int | None = column("The HTTP status that the upstream answered with.")
    request_bytes: int = column("The size of the request's body.")
    response_bytes: int | None = column("The size of the answer's body.")

    @field
    async def delegation(self, info: Info) -> Delegation:
        """The delegation that it was asked for under."""
        return Delegation(row=await info.context.load(delegations, self.row.delegation_id))

    @field
    async def binding(self, info: Info) -> Binding:
        """The binding that asked for it."""
        return Binding(row=await info.context.load(bindings, self.row.binding_id))


DispatchConnection = Connection[Dispatch]


@object_type
class UpstreamResponse:
    """An upstream's answer."""

    #: Bytes that its body takes in an answer of ours.
    size: strawberry.Private[int]

    status: int = given("Its HTTP status.")
    content_type: str | None = given("Its media type.")
    body: JSON | None = given(
        "Its body, where that is JSON: at most 254 levels, and 500,000 lists and objects."
    )
    text: str | None = given("Its body, where that is anything else, read as UTF-8.")


def upstream_response(answered: Answered) -> UpstreamResponse:
    """An answer as JSON where it says that it is, and it is; else as text."""
    content_type = dict(answered.headers).get("content-type")
    body, text, size = None, None, len(answered.body)
    if _says_json(content_type) and _is_json(answered.body):
        # As it came: a number that no float holds keeps its digits.
        body = JSON(orjson.Fragment(answered.body))
    else:
        text = answered.body.decode("utf-8", "replace")
        size = len(orjson.dumps(text))  # six bytes for a NUL
    return UpstreamResponse(
        size=size, status=answered.status, content_type=content_type, body=body, text=text
    )


def _says_json(content_type: str | None) -> bool:
    essence = (content_type or "").partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")


def _is_json(body: bytes) -> bool:
    if body.count(b"[") + body.count(b"{") > _MOST_PARTS:
        return False
    try:
        orjson.dumps(orjson.loads(body))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # it nests deeper than readers of JSON go
        return False
    return True
