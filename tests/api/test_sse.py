"""GraphQL over SSE, distinct connections mode, by POST: the stream's every byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from tests.api.conftest import KEY
from tests.api.toy import WORLD
from tests.serving import TLS

HEADERS = {**KEY, "Content-Type": "application/json", "Accept": "text/event-stream"}


def streamed(http: httpx2.Client, query: str) -> str:
    response = http.post("/graphql", content=orjson.dumps({"query": query}), headers=HEADERS)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-transform"
    return response.text


def events(stream: str) -> list[tuple[str, object]]:
    """Each event's name and data, read as a client does that splits at LF LF alone."""
    blocks = [dict(line.split(":", 1) for line in block.split("\n")) for block in stream.split("\n\n")[:-1]]
    return [(one["event"].strip(), orjson.loads(one["data"] or b"null")) for one in blocks if "event" in one]


@asynccontextmanager
async def opened(address: str, query: str, path: str = "/graphql") -> AsyncIterator[httpx2.Response]:
    body = orjson.dumps({"query": query})
    async with (
        httpx2.AsyncClient(base_url=f"http://{address}", timeout=30, verify=TLS) as client,
        client.stream("POST", path, content=body, headers=HEADERS) as response,
    ):
        yield response


def test_a_subscription_is_a_next_for_each_result_and_a_complete(http: httpx2.Client) -> None:
    assert streamed(http, "subscription { counts(to: 2) }") == (
        'event: next\ndata: {"data":{"counts":0}}\n\n'
        'event: next\ndata: {"data":{"counts":1}}\n\n'
        "event: complete\ndata:\n\n"
    )


@pytest.mark.parametrize("query", ["{ whoami }", "subscription { whoami }"])
def test_any_operation_can_be_streamed(http: httpx2.Client, query: str) -> None:
    assert events(streamed(http, query)) == [("next", {"data": {"whoami": "alice"}}), ("complete", None)]


@pytest.mark.parametrize("query", ["subscription { counts", "subscription { nothing }", ""])
def test_a_document_that_cannot_run_says_so_in_the_stream(http: httpx2.Client, query: str) -> None:
    # graphql-sse: a status other than 200 would hide the errors from a browser.
    [(name, result), last] = events(streamed(http, query))
    assert (name, last) == ("next", ("complete", None))
    assert isinstance(result, dict)
    assert result["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT"}


def test_an_error_while_iterating_is_public_and_ends_the_stream(http: httpx2.Client) -> None:
    with capture_logs() as logs:
        stream = streamed(http, 'subscription { fails(how: "bug", after: 1) }')
    assert events(stream) == [
        ("next", {"data": {"fails": 0}}),
        (
            "next",
            {
                "errors": [
                    {"message": "Internal error", "extensions": {"code": "INTERNAL", "requestId": "req_1"}}
                ]
            },
        ),
        ("complete", None),
    ]
    assert len(logs) == 1


async def test_a_quiet_stream_says_that_it_lives(address: str) -> None:
    async with opened(address, 'subscription { never(name: "quiet") }', "/hasty") as response:
        lines = [line async for line in _until(response.aiter_lines(), comments=2)]
    assert lines.count(":") == 2
    assert lines[:2] == ["event: next", 'data: {"data":{"never":0}}']


async def _until(lines: AsyncIterator[str], comments: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        comments -= line.startswith(":")
        if not comments:
            return


async def test_a_client_that_leaves_ends_its_operation(address: str) -> None:
    async with opened(address, 'subscription { never(name: "left") }') as response:
        assert await anext(response.aiter_lines()) == "event: next"
        assert WORLD.until("left", runs=True)
    assert await asyncio.to_thread(WORLD.until, "left", runs=False)


async def test_a_client_that_leaves_ends_a_query_too(address: str) -> None:
    async with opened(address, '{ waits(name: "query") }'):
        assert await asyncio.to_thread(WORLD.until, "query", runs=True)
    assert await asyncio.to_thread(WORLD.until, "query", runs=False)


async def test_a_client_that_leaves_without_reading_ends_its_operation(address: str) -> None:
    async with opened(address, 'subscription { floods(name: "flood") }'):
        assert await asyncio.to_thread(WORLD.until, "flood", runs=True)
    assert await asyncio.to_thread(WORLD.until, "flood", runs=False)
