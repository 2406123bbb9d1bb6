"""The assembled application over real sockets."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from app.edge.body import Late, read_body
from app.edge.problem import send_problem
from app.rules.errors import Code
from app.telemetry import IN_FLIGHT, get_logger
from app.web.app import assemble
from app.web.health import healthz, readyz
from app.web.metrics import metrics
from tests.web.serving import ask, connected, get, serving

TOKEN = "cgt_live_" + "x1Y-" * 10
NAME = re.compile(r"req_[0-9a-f]{32}")


async def no_lifespan(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("lifespan")


@asynccontextmanager
async def gateway(routes: Mapping[str, ASGIApp], **options: Any) -> AsyncIterator[int]:
    async with serving(assemble(routes, lifespan=no_lifespan), **options) as port:
        yield port


def saying(text: str, *headers: tuple[bytes, bytes]) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = (b"content-length", b"%d" % len(text))
        await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": text.encode()})

    return app


def logged(lines: BytesIO) -> list[dict[str, Any]]:
    found = [orjson.loads(line) for line in lines.getvalue().splitlines()]
    return [line for line in found if line.get("logger") != "uvicorn.error"]


# Ways


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", b"root"),
        ("/graphql", b"graphql"),
        ("/proxy/x", b"proxy"),
        ("/proxy/", b"proxy"),
        ("/proxy/deep/er", b"deeper"),
        ("/proxy/deep", b"proxy"),
        ("/%70roxy/x", b"proxy"),
        ("/graphql?query=1", b"graphql"),
    ],
)
async def test_an_exact_path_wins_then_the_longest_prefix(path: str, expected: bytes) -> None:
    names = {"/": "root", "/graphql": "graphql", "/proxy/": "proxy", "/proxy/deep/": "deeper"}
    async with gateway({path: saying(name) for path, name in names.items()}) as port:
        assert (await get(port, path)).body == expected


@pytest.mark.parametrize("path", ["/nothing", "/graphql/", "/graphqlx", "/proxy", "//graphql", "*"])
async def test_another_path_is_not_found(path: str) -> None:
    async with gateway({"/": saying("root"), "/graphql": saying("x"), "/proxy/": saying("x")}) as port:
        answer = await get(port, path, method="OPTIONS")
    assert (answer.status, answer.problem["code"]) == (404, "NOT_FOUND")


async def test_another_method_is_told_which_are_allowed() -> None:
    async with gateway({"/healthz": healthz()}) as port:
        answer = await get(port, "/healthz", method="DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.problem["code"] == "NOT_SUPPORTED"


# Every answer


async def test_every_answer_is_named_and_guarded() -> None:
    cached = saying("x", (b"cache-control", b"max-age=60"), (b"x-content-type-options", b"nosniff"))
    routes = {"/graphql": saying("x"), "/proxy/": saying("x"), "/keys": cached}
    async with gateway(routes) as port:
        answers = {path: await get(port, path) for path in ("/graphql", "/proxy/x", "/keys", "/none")}
    for answer in answers.values():
        assert NAME.fullmatch(answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    cache = {path: answer.headers.get("cache-control") for path, answer in answers.items()}
    assert cache == {"/graphql": "no-store", "/proxy/x": None, "/keys": "max-age=60", "/none": "no-store"}


async def test_a_request_id_is_ours_and_on_every_line_of_its_request(lines: BytesIO) -> None:
    async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
        get_logger().info("inside")
        await saying("x")(scope, receive, send)

    async with gateway({"/x": talkative}) as port:
        answers = [await get(port, "/x", "X-Request-Id: req_chosen_by_me") for _ in range(2)]
    names = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(names)) == 2
    assert [line["request_id"] for line in logged(lines)] == [names[0], names[0], names[1], names[1]]


async def test_an_access_line_has_method_path_status_and_time_but_no_query(lines: BytesIO) -> None:
    async with gateway({"/x": saying("x"), "/healthz": healthz()}) as port:
        await get(port, "/x?secret=1", method="PUT")
        await get(port, f"/{TOKEN}")
        await get(port, "/healthz")
    first, second = logged(lines)
    assert (first["event"], first["method"], first["path"], first["status"]) == ("request", "PUT", "/x", 200)
    assert 0 < first["ms"] < 5_000
    assert (second["path"], second["status"]) == ("/cgt_live_…redacted", 404)
    assert b"secret" not in lines.getvalue()


async def test_a_client_that_hangs_up_has_an_access_line_without_status(lines: BytesIO) -> None:
    async def waiting(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with gateway({"/x": waiting}) as port, connected(port) as peer:
        await peer.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    (line,) = logged(lines)
    assert line["status"] is None


# Failures


async def test_an_exception_is_logged_redacted_and_answered_with_the_request_id_alone(lines: BytesIO) -> None:
    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError(f"do not show {TOKEN}")

    async with gateway({"/x": failing}) as port:
        answer = await get(port, "/x")
    assert answer.status == 500
    assert answer.problem == {
        "type": "urn:crossgrant:problem:INTERNAL",
        "title": "Internal",
        "status": 500,
        "code": "INTERNAL",
        "requestId": answer.headers["x-request-id"],
    }
    failure, access = logged(lines)
    assert "do not show cgt_live_…redacted" in failure["exception"]
    assert failure["request_id"] == answer.headers["x-request-id"]
    assert access["status"] == 500
    assert TOKEN.encode() not in lines.getvalue()


async def test_a_failure_in_mid_answer_cuts_it_off(lines: BytesIO) -> None:
    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    async with gateway({"/x": half}) as port, connected(port) as peer:
        await peer.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.rest()).endswith(b"\r\n\r\nhalf")
    assert [line["event"] for line in logged(lines)] == ["unhandled", "request"]


# WebSockets


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    if message.get("text") == "fail":
        raise ValueError
    await send({"type": "websocket.send", "text": message["text"]})


async def test_websockets_take_the_same_routes(lines: BytesIO) -> None:
    url = "ws://127.0.0.1:{}/graphql?secret=1"
    async with gateway({"/graphql": echo}) as port, connect(url.format(port)) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
    (line,) = logged(lines)
    assert (line["method"], line["path"]) == ("WEBSOCKET", "/graphql")
    assert b"secret" not in lines.getvalue()


async def test_a_websocket_to_nowhere_is_not_found() -> None:
    routes = {"/healthz": healthz(), "/proxy/": saying("x"), "/graphql": echo}
    async with gateway(routes) as port:
        for path in ("/none", "/healthz", "/proxy/x", "/proxy/receipts-api/a", "/graphql/"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}{path}")
            assert refused.value.response.status_code == 404
            assert b"NOT_FOUND" in refused.value.response.body


async def test_a_websocket_that_fails_is_closed_1011_and_logged_once(lines: BytesIO) -> None:
    async with gateway({"/graphql": echo}) as port, connect(f"ws://127.0.0.1:{port}/graphql") as socket:
        await socket.send("fail")
        with pytest.raises(ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert [line["event"] for line in logged(lines)] == ["unhandled", "request"]
    assert lines.getvalue().count(b"Traceback") == 1


async def test_a_websocket_that_fails_before_it_is_accepted_is_500(lines: BytesIO) -> None:
    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("why")

    async with gateway({"/graphql": failing}) as port:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{port}/graphql")
    assert refused.value.response.status_code == 500
    assert b'"requestId":"req_' in refused.value.response.body
    assert lines.getvalue().count(b"Traceback") == 1


@pytest.mark.parametrize(
    ("line", "status"),
    [("X: " + "x" * 10_000, 431), ("X: 1\r\n" * 200 + "X: 1", 431), ("X: 1", 400)],
    ids=["long line", "many lines", "no key"],
)
async def test_a_handshake_that_fails_is_answered_and_closed(line: str, status: int, lines: BytesIO) -> None:
    head = f"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{line}\r\n\r\n"
    async with gateway({"/x": echo}) as port, connected(port) as peer:
        await peer.send(head.encode())
        assert (await peer.rest()).startswith(b"HTTP/1.1 %d " % status)
    assert b"Traceback" not in lines.getvalue()


# Health and metrics


async def test_health_is_while_the_loop_turns_and_readiness_says_why_not() -> None:
    reasons: list[str | None] = [None, "The store is away."]

    async def ready() -> str | None:
        return reasons.pop(0)

    async with gateway({"/healthz": healthz(), "/readyz": readyz(ready)}) as port:
        for path in ("/healthz", "/readyz"):
            answer = await get(port, path)
            assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
        answer = await get(port, "/readyz")
        assert (answer.status, answer.problem["detail"]) == (503, "The store is away.")


async def test_a_readiness_check_that_hangs_is_not_ready() -> None:
    async def hangs() -> str | None:
        raise TimeoutError

    async with gateway({"/readyz": readyz(hangs)}) as port:
        assert (await get(port, "/readyz")).status == 503


async def refreshing() -> None:
    IN_FLIGHT.set(42)


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        (None, [], 200),
        (None, ["X-Forwarded-For: 203.0.113.7"], 403),
        (None, ["X-Forwarded-For: 127.0.0.1"], 403),
        (None, ["Forwarded: for=203.0.113.7"], 403),
        ("s3cret", [], 401),
        ("s3cret", ["Authorization: Bearer wrong"], 401),
        ("s3cret", ["Authorization: s3cret"], 401),
        ("s3cret", ["Authorization: Bearer s3cret", "Authorization: Bearer wrong"], 400),
        ("s3cret", ["Authorization: Bearer s3cret"], 200),
        ("s3cret", ["Authorization: bearer s3cret"], 200),
        ("s3cret", ["Authorization: Bearer s3cret", "X-Forwarded-For: 203.0.113.7"], 200),
    ],
)
async def test_metrics_are_for_loopback_or_for_the_token(
    token: str | None, headers: list[str], status: int
) -> None:
    gate = metrics(SecretStr(token) if token else None, refreshing)
    async with gateway({"/metrics": gate}) as port:
        answer = await get(port, "/metrics", *headers)
    assert answer.status == status
    assert (b"crossgrant_in_flight 42.0" in answer.body) == (status == 200)
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_metrics_refuse_a_peer_from_elsewhere() -> None:
    async def from_elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        await metrics(None, refreshing)({**scope, "client": ("203.0.113.7", 1)}, receive, send)

    async with gateway({"/metrics": from_elsewhere}) as port:
        assert (await get(port, "/metrics")).status == 403


async def test_metrics_show_what_this_process_knows_when_the_store_is_away(lines: BytesIO) -> None:
    async def away() -> None:
        raise ConnectionError

    async with gateway({"/metrics": metrics(None, away)}) as port:
        answer = await get(port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert [line["event"] for line in logged(lines)] == ["metrics refresh failed"]


async def test_a_head_request_has_no_body() -> None:
    async with gateway({"/healthz": healthz()}) as port, connected(port) as peer:
        await peer.send(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await peer.rest()).endswith(b"\r\n\r\n")


async def test_lifespan_goes_to_whom_it_is_given() -> None:
    seen: list[str] = []

    async def lifespan(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nobody(*_: object) -> Any:
        raise AssertionError("asked")

    await assemble({}, lifespan=lifespan)({"type": "lifespan"}, nobody, nobody)
    assert seen == ["lifespan"]


async def test_a_request_body_deadline_ends_a_body_that_never_ends() -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        assert await read_body(scope, receive, limit=100, seconds=0.05) == Late(0.05)
        await send_problem(send, 408, Code.REQUEST_TIMEOUT, "Send faster.")

    async with gateway({"/x": reading}) as port:
        answer = await ask(port, b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert answer.problem["code"] == "REQUEST_TIMEOUT"
