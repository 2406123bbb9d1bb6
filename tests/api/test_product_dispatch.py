"""`dispatchAction`: the same path as the proxy's, with its answer as data."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.rules.permissions import Role
from tests.api.product import ERRORS, REVOKE, Tenant, World
from tests.web.serving import serving

DISPATCH = (
    "mutation ($input: DispatchActionInput!) { dispatchAction(input: $input) {"
    " dispatch { id outcome code scope termsVersion upstreamStatus requestBytes responseBytes finishedAt"
    "   delegation { id } binding { id } }"
    f" response {{ status contentType body text }} {ERRORS} }} }}"
)
ID = {"id": "1"}
SETUP = """
mutation ($up: RegisterUpstreamInput!) { registerUpstream(input: $up) { upstream { id } userErrors { message } } }
"""
ACTION = "mutation ($input: DefineActionInput!) { defineAction(input: $input) { action { id } userErrors { code } } }"


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


class Upstream:
    """Remembers what it was asked, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, str | None, bytes]] = []
        self.answer = Response(b'{"ok": [1, null]}', 200, media_type="application/json")

    async def __call__(self, request: Request) -> Response:
        self.asked.append(
            (
                request.method,
                request.scope["raw_path"].decode(),
                request.url.query,
                request.headers.get("content-type"),
                await request.body(),
            )
        )
        return self.answer


class Lending:
    """Acme's upstream lent to Globex."""

    def __init__(self, world: World, acme: Tenant, globex: Tenant, upstream: Upstream) -> None:
        self.world = world
        self.acme = acme
        self.globex = globex
        self.upstream = upstream
        self.upstream_id = ""
        self.accepted: dict[str, Any] = {}

    async def action(self, method: str, path: str, scope: str) -> str:
        given = {"upstreamId": self.upstream_id, "scope": scope, "method": method, "path": path}
        made = await self.world.ask(self.acme.key, ACTION, input=given)
        id: str = made["action"]["id"]
        return id

    async def dispatch(self, scope: str = "receipts:read", **more: Any) -> Any:
        given = {"bindingId": self.accepted["binding"]["id"], "scope": scope, **more}
        return await self.world.ask(self.globex.key, DISPATCH, input=given)


@pytest_asyncio.fixture
async def lending(world: World) -> AsyncIterator[Lending]:
    upstream = Upstream()
    methods = ["GET", "POST"]
    app = Starlette(routes=[Route("/{rest:path}", upstream.__call__, methods=methods)])
    async with serving(app) as port:
        acme, globex = await world.tenant("acme"), await world.tenant("globex")
        it = Lending(world, acme, globex, upstream)
        given = {"name": "api", "kind": "REST", "baseUrl": f"http://127.0.0.1:{port}"}
        it.upstream_id = (await world.ask(acme.key, SETUP, up=given))["upstream"]["id"]
        await it.action("GET", "/v1/receipts/{id}", "receipts:read")
        await it.action("POST", "/v1/receipts", "receipts:write")
        it.accepted = await world.delegated(acme, globex, constraints={"maxActionsPerDay": 3})
        yield it


async def test_an_action_is_performed_and_both_sides_see_it(lending: Lending) -> None:
    done = await lending.dispatch(
        pathParameters={"id": "a b/"[:3]}, query={"q": "ü&=", "n": [1, 2.5], "yes": True, "none": None}
    )
    assert done["userErrors"] == []
    assert done["response"] == {
        "status": 200,
        "contentType": "application/json",
        "body": {"ok": [1, None]},
        "text": None,
    }
    assert lending.upstream.asked == [
        ("GET", "/v1/receipts/a%20b", "q=%C3%BC%26%3D&n=1&n=2.5&yes=true", None, b"")
    ]
    dispatch = done["dispatch"]
    assert (dispatch["outcome"], dispatch["code"], dispatch["upstreamStatus"]) == ("COMPLETED", None, 200)
    assert dispatch["binding"] == {"id": lending.accepted["binding"]["id"]}
    query = "query ($id: ID!) { dispatch(id: $id) { id delegation { id } binding { agent { name } } } }"
    for tenant in (lending.acme, lending.globex):
        seen = await lending.world.ask(tenant.key, query, id=dispatch["id"])
        assert seen["binding"] == {"agent": {"name": "globex-agent"}}
    other = await lending.world.tenant("other")
    assert await lending.world.ask(other.key, query, id=dispatch["id"]) is None
    filter = {"dispatchId": dispatch["id"]}
    entries = (
        "query ($filter: AuditFilter) { auditLog(filter: $filter) { nodes { event outcome actor action } } }"
    )
    for tenant, actor in ((lending.acme, None), (lending.globex, "owner")):
        [entry] = (await lending.world.ask(tenant.key, entries, filter=filter))["nodes"]
        assert entry == {
            "event": "delegation.action",
            "outcome": "COMPLETED",
            "actor": actor,
            "action": "receipts:read",
        }


async def test_a_body_is_sent_as_json(lending: Lending) -> None:
    await lending.dispatch("receipts:write", body={"total": 1.5, "of": ["ü"]})
    [(method, path, _, content_type, body)] = lending.upstream.asked
    assert (method, path, content_type) == ("POST", "/v1/receipts", "application/json")
    assert orjson.loads(body) == {"total": 1.5, "of": ["ü"]}


@pytest.mark.parametrize(
    ("content_type", "content", "shown"),
    [
        ("application/problem+json; charset=utf-8", b"[1]", ([1], None)),
        ("application/json", b"{no", (None, "{no")),
        ("text/html", b"<p>\xff", (None, "<p>\ufffd")),
        ("application/json", b"", (None, "")),
        ("application/json", b"[" * 254 + b"]" * 254, (nested(254), None)),
        ("application/json", b"[" * 255 + b"]" * 255, (None, "[" * 255 + "]" * 255)),
        ("application/json", b"[" * 5000, (None, "[" * 5000)),
        ("application/json", b'{\r\n "n": [1,\n2]\n}', ({"n": [1, 2]}, None)),
        ("application/json", b'"\\ud800"', (None, '"\\ud800"')),
        ("text/plain; charset=\xff\xfe", b"\0\xff", (None, "\0\ufffd")),
    ],
)
async def test_an_answer_is_json_or_text(
    lending: Lending, content_type: str, content: bytes, shown: tuple[object, object]
) -> None:
    lending.upstream.answer = Response(content, 404, {"content-type": content_type})
    response = (await lending.dispatch(pathParameters={"id": 7}))["response"]
    assert (response["status"], response["contentType"]) == (404, content_type)
    assert (response["body"], response["text"]) == shown
    assert lending.upstream.asked[0][1] == "/v1/receipts/7"


async def test_the_numbers_of_an_answer_keep_every_digit(lending: Lending) -> None:
    lending.upstream.answer = Response(b"[12345678901234567890123, 0.10]", media_type="application/json")
    given = {"bindingId": lending.accepted["binding"]["id"], "scope": "receipts:read", "pathParameters": ID}
    answered = await lending.world.post(lending.globex.key, DISPATCH, input=given)
    assert b'"body":[12345678901234567890123, 0.10]' in answered


async def test_json_of_more_parts_than_are_read_is_text(lending: Lending) -> None:
    parts = b"[" + b"[]," * 500_000 + b"1]"
    lending.upstream.answer = Response(parts, media_type="application/json")
    response = (await lending.dispatch(pathParameters=ID))["response"]
    assert (response["body"], response["text"]) == (None, parts.decode())


async def test_an_answer_laid_out_over_lines_is_one_event_of_a_stream(lending: Lending) -> None:
    lending.upstream.answer = Response(b'{\n"a":\r\n1}', media_type="application/json")
    given = {"bindingId": lending.accepted["binding"]["id"], "scope": "receipts:read", "pathParameters": ID}
    headers = {"X-API-Key": lending.globex.key, "Accept": "text/event-stream"}
    document = {"query": DISPATCH, "variables": {"input": given}}
    streamed = await lending.world.http.post("/graphql", json=document, headers=headers)
    [event, data, *rest] = streamed.text.splitlines()
    assert (event, rest) == ("event: next", ["", "event: complete", "data:", ""])
    assert orjson.loads(data.removeprefix("data: "))["data"]["dispatchAction"]["response"]["body"] == {"a": 1}


async def test_answers_beyond_a_documents_room_are_left_out_and_told(lending: Lending) -> None:
    lending.upstream.answer = Response(b"x" * (10 * 1024 * 1024), media_type="text/plain")
    given = {"bindingId": lending.accepted["binding"]["id"], "scope": "receipts:read", "pathParameters": ID}
    action = f"dispatchAction(input: $input) {{ dispatch {{ outcome }} response {{ status text }} {ERRORS} }}"
    query = f"mutation ($input: DispatchActionInput!) {{ a: {action} b: {action} }}"
    done = await lending.world.ask(lending.globex.key, query, input=given)
    assert done["a"]["userErrors"] == []
    assert len(done["a"]["response"]["text"]) == 10 * 1024 * 1024
    assert done["b"]["dispatch"] == {"outcome": "COMPLETED"}
    assert done["b"]["response"] == {"status": 200, "text": None}
    [error] = done["b"]["userErrors"]
    assert error["code"] == "LIMIT_REACHED"
    assert "was performed" in error["message"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"pathParameters": [1]}, ["pathParameters"]),
        ({"pathParameters": {"id": None}}, ["pathParameters", "id"]),
        ({"pathParameters": {"id": True}}, ["pathParameters", "id"]),
        ({"pathParameters": {"id": "../x"}}, ["pathParameters", "id"]),
        ({"pathParameters": {}}, ["pathParameters"]),
        ({"pathParameters": {"id": "1"}, "query": "a=b"}, ["query"]),
        ({"pathParameters": {"id": "1"}, "query": {"a": {"b": 1}}}, ["query", "a"]),
        ({"pathParameters": {"id": "1"}, "query": {"a": [[1]]}}, ["query", "a"]),
        ({"pathParameters": {"id": "1"}, "query": {"a": "x" * 5000}}, ["query"]),
        ({"pathParameters": {"id": "1"}, "idempotencyKey": ""}, ["idempotencyKey"]),
    ],
)
async def test_wrong_input_is_told_before_anything_is_recorded(
    lending: Lending, given: dict[str, Any], path: list[str]
) -> None:
    refused = await lending.dispatch(**given)
    assert (refused["dispatch"], refused["response"]) == (None, None)
    [error] = refused["userErrors"]
    assert (error["code"], error["path"]) == ("INVALID", path)
    assert lending.upstream.asked == []
    page = await lending.world.ask(lending.globex.key, "{ dispatches { nodes { id } } }")
    assert page["nodes"] == []


async def test_a_refusal_is_data_and_recorded(lending: Lending) -> None:
    unknown = await lending.dispatch("reports:read")
    assert [error["code"] for error in unknown["userErrors"]] == ["ACTION_NOT_FOUND"]
    assert (unknown["dispatch"]["outcome"], unknown["dispatch"]["code"]) == ("REFUSED", "ACTION_NOT_FOUND")
    for _ in range(3):
        assert (await lending.dispatch(pathParameters={"id": "1"}))["userErrors"] == []
    capped = await lending.dispatch(pathParameters={"id": "1"})
    assert [error["code"] for error in capped["userErrors"]] == ["CAP_DAY"]
    id = lending.accepted["delegation"]["id"]
    await lending.world.ask(lending.acme.key, REVOKE, id=id, reason="over")
    ended = await lending.dispatch(pathParameters={"id": "1"})
    assert [error["code"] for error in ended["userErrors"]] == ["DELEGATION_REVOKED"]
    assert len(lending.upstream.asked) == 3
    query = (
        "query ($id: ID, $after: String) { dispatches(delegationId: $id, first: 4, after: $after) {"
        " pageInfo { hasNextPage endCursor } nodes { outcome } } }"
    )
    for tenant in (lending.acme, lending.globex):
        page = await lending.world.ask(tenant.key, query, id=id)
        assert [node["outcome"] for node in page["nodes"]] == ["REFUSED", *["COMPLETED"] * 3]
        rest = await lending.world.ask(tenant.key, query, after=page["pageInfo"]["endCursor"])
        assert [node["outcome"] for node in rest["nodes"]] == ["REFUSED"] * 2
    other = await lending.world.tenant("other")
    assert (await lending.world.ask(other.key, query, id=id))["nodes"] == []


async def test_an_upstream_that_is_away_is_told(lending: Lending) -> None:
    move = 'mutation ($id: ID!) { updateUpstream(input: {upstreamId: $id, baseUrl: "http://127.0.0.1:9"}) { userErrors { code } } }'
    await lending.world.ask(lending.acme.key, move, id=lending.upstream_id)
    away = await lending.dispatch(pathParameters={"id": "1"})
    assert [error["code"] for error in away["userErrors"]] == ["UPSTREAM_UNREACHABLE"]
    assert (away["dispatch"]["outcome"], away["response"]) == ("FAILED", None)


async def test_an_idempotency_key_makes_a_repeat_the_same_dispatch(lending: Lending) -> None:
    given: dict[str, Any] = {"pathParameters": {"id": "1"}, "idempotencyKey": "k"}
    first = await lending.dispatch(**given)
    assert await lending.dispatch(**given) == first
    assert len(lending.upstream.asked) == 1
    another = await lending.dispatch(**{**given, "pathParameters": {"id": "2"}})
    assert [error["code"] for error in another["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]
    longer = await lending.dispatch(**{**given, "idempotencyKey": "k" * 256})
    assert longer["userErrors"][0]["path"] == ["idempotencyKey"]


async def test_several_actions_of_one_scope_are_told_apart(lending: Lending) -> None:
    second = await lending.action("GET", "/v1/receipts", "receipts:read")
    unclear = await lending.dispatch()
    assert [(error["code"], error["path"]) for error in unclear["userErrors"]] == [
        ("ACTION_AMBIGUOUS", ["actionId"])
    ]
    assert (await lending.dispatch(actionId=second))["userErrors"] == []
    assert lending.upstream.asked[0][1] == "/v1/receipts"


async def test_only_a_binding_of_ones_own_dispatches(lending: Lending) -> None:
    for tenant in (lending.acme, await lending.world.tenant("other")):
        given = {"bindingId": lending.accepted["binding"]["id"], "scope": "receipts:read"}
        refused = await lending.world.ask(tenant.key, DISPATCH, input=given)
        assert [error["code"] for error in refused["userErrors"]] == ["NOT_FOUND"]
    operator = await lending.world.key(lending.globex, Role.OPERATOR)
    given = {
        "bindingId": lending.accepted["binding"]["id"],
        "scope": "receipts:read",
        "pathParameters": {"id": "1"},
    }
    assert (await lending.world.ask(operator, DISPATCH, input=given))["userErrors"] == []
