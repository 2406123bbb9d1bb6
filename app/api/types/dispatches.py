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

    status: int = given("Its HTTP status.")
    content_type: str | None = given("Its media type.")
    body: JSON | None = given("Its body, where that is JSON.")
    text: str | None = given("Its body, where that is anything else, read as UTF-8.")


def upstream_response(answered: Answered) -> UpstreamResponse:
    """An answer as JSON where it says that it is, and it is; else as text."""
    content_type = dict(answered.headers).get("content-type")
    response = UpstreamResponse(status=answered.status, content_type=content_type, body=None, text=None)
    try:
        if _is_json(content_type):
            response.body = JSON(orjson.loads(answered.body))
            return response
    except orjson.JSONDecodeError:
        pass  # whatever it said, it is text
    response.text = answered.body.decode("utf-8", "replace")
    return response


def _is_json(content_type: str | None) -> bool:
    essence = (content_type or "").partition(";")[0].strip().lower()
    return essence == "application/json" or essence.endswith("+json")
