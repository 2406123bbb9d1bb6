"""Refusals as RFC 9457 documents, and the headers and methods that endpoints share."""

import orjson
from starlette.types import Message, Receive, Scope, Send

from app.edge.headers import OWN, completed
from app.edge.methods import only
from app.edge.problem import problem_bytes, send_problem
from app.rules.errors import Code


class Sent:
    """Collects what an endpoint sends."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


async def nothing() -> Message:
    raise AssertionError("read")


def test_a_problem_has_the_members_of_the_rfc_its_code_and_extensions() -> None:
    document = problem_bytes(403, Code.DELEGATION_REVOKED, "Revoked at noon.", dispatchId="dsp_1", retry=None)
    assert orjson.loads(document) == {
        "type": "urn:crossgrant:problem:DELEGATION_REVOKED",
        "title": "Delegation revoked",
        "status": 403,
        "detail": "Revoked at noon.",
        "code": "DELEGATION_REVOKED",
        "dispatchId": "dsp_1",
    }


async def test_a_problem_is_sent_with_its_length_type_and_headers_and_never_cached() -> None:
    sent = Sent()
    await send_problem(sent, 429, Code.CAP_HOUR, headers=[(b"retry-after", b"60")], dispatchId="dsp_1")
    body = sent.messages[1]["body"]
    assert sent.status == 429
    assert sent.headers == {
        b"content-type": b"application/problem+json",
        b"content-length": b"%d" % len(body),
        b"cache-control": b"no-store",
        b"retry-after": b"60",
    }
    assert body == problem_bytes(429, Code.CAP_HOUR, dispatchId="dsp_1")


async def test_an_endpoint_answers_its_methods_and_405_to_others() -> None:
    async def fine(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    expected = {"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405}
    for method, status in expected.items():
        sent = Sent()
        await only(fine, "GET")({"type": "http", "method": method}, nothing, sent)
        assert sent.status == status
        assert sent.headers.get(b"allow") == (b"GET, HEAD" if status == 405 else None)


async def test_a_websocket_to_an_http_endpoint_is_not_found() -> None:
    sent = Sent()
    await only(nothing_here, "GET")({"type": "websocket"}, nothing, sent)
    assert [message["type"] for message in sent.messages] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent.status == 404


async def nothing_here(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("served")


def test_an_endpoints_own_header_wins_over_the_default() -> None:
    chosen = [(b"cache-control", b"max-age=60")]
    assert completed(chosen, OWN) == [
        (b"cache-control", b"max-age=60"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    assert chosen == [(b"cache-control", b"max-age=60")]
