"""What one document may do to everybody else, and what it is told when the store goes away under it."""

from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from app.api.context import Context
from app.api.mutations.work import _performed
from app.api.requests import Operation
from app.api.schema import make_schema
from app.proxy.answers import Answered, Denied
from app.rules.errors import Code, Unavailable
from app.rules.ids import DispatchId
from app.store.engine import Store
from app.store.keys import new_id
from tests.api.product import ERRORS, World

SCHEMA = make_schema()


@pytest.mark.parametrize(
    "field",
    [
        'auditLog(filter: {events: ["zz"]}) { nodes { id } }',
        "auditLog(filter: {outcome: COMPLETED}) { nodes { id } }",
        'auditLog(filter: {since: "2020-01-01T00:00:00Z"}) { nodes { id } }',
        'delegations(direction: OUTGOING) { nodes { audit(events: ["zz"]) { nodes { id } } } }',
    ],
)
async def test_a_document_searches_the_log_a_few_times_only(world: World, field: str) -> None:
    acme = await world.tenant("acme")

    def document(times: int) -> str:
        return "{ " + " ".join(f"a{n}: {field}" for n in range(times)) + " }"

    assert len(await world.ask(acme.key, document(3))) == 3
    assert await world.code(acme.key, document(4)) == "QUERY_TOO_COMPLEX"


async def test_a_document_reads_the_log_by_its_indexes_as_often_as_it_likes(world: World) -> None:
    acme = await world.tenant("acme")
    fields = (f'a{n}: auditLog(filter: {{delegationId: "x"}}) {{ nodes {{ id }} }}' for n in range(20))
    assert len(await world.ask(acme.key, "{ " + " ".join(fields) + " }")) == 20


async def test_a_refusal_repeats_little_of_what_a_client_sent(world: World) -> None:
    acme = await world.tenant("acme")
    upstream = {"name": "x" * 900_000, "kind": "REST", "baseUrl": "http://127.0.0.1:9"}
    query = f"mutation ($input: RegisterUpstreamInput!) {{ registerUpstream(input: $input) {{ {ERRORS} }} }}"
    assert len(await world.post(acme.key, query, input=upstream)) < 1_500
    dispatch = {"bindingId": "x", "scope": "a:b", "pathParameters": {"x" * 60_000: None}}
    query = f"mutation ($input: DispatchActionInput!) {{ dispatchAction(input: $input) {{ {ERRORS} }} }}"
    [error] = (await world.ask(acme.key, query, input=dispatch))["userErrors"]
    assert [len(step) for step in error["path"]] == [len("pathParameters"), 100]
    assert len(error["message"]) < 200


class Away(Store):
    """A store that nobody reaches any more."""

    @override
    async def read(self, *_: Any, **__: Any) -> Any:
        raise Unavailable("nothing was done; try again", 7)

    write = commit = migrate = hold = close = read


@pytest.mark.parametrize(
    "query",
    [
        "{ viewer { tenant { slug } } }",
        "{ agents { totalCount } }",
        'mutation { registerAgent(input: {name: "x", scopes: []}) { agent { id } } }',
    ],
)
async def test_a_store_that_goes_away_is_unavailable_and_no_fault(world: World, query: str) -> None:
    acme = await world.tenant("acme")
    context = Context(replace(world.gateway, store=Away()), await world.caller(acme.key), None)
    async for result in SCHEMA.results(Operation(query, {}, None), context):
        assert result.errors
        [error] = result.errors
        assert error.extensions == {"code": "UNAVAILABLE", "retryAfter": 7}


async def test_an_action_that_was_performed_is_told_even_where_its_record_cannot_be_read(
    world: World,
) -> None:
    acme = await world.tenant("acme")
    context = Context(replace(world.gateway, store=Away()), await world.caller(acme.key), None)
    id = DispatchId(new_id("dsp"))
    payload = await _performed(context, Answered(id, 200, [("content-type", "application/json")], b"{}"))
    assert payload.response is not None
    [error] = payload.user_errors
    assert error.row.code is Code.UNAVAILABLE
    assert id in error.row.message
    payload = await _performed(context, Denied(Code.UPSTREAM_TIMEOUT, id))
    assert [one.row.code for one in payload.user_errors] == [Code.UPSTREAM_TIMEOUT, Code.UNAVAILABLE]
