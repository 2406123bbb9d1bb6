"""Multipart subscriptions, as Apollo's clients read them: the stream's every byte."""

import asyncio

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from tests.api.conftest import KEY
from tests.api.toy import WORLD
from tests.serving import TLS

ACCEPT = 'multipart/mixed;boundary=graphql;subscriptionSpec="1.0", application/json'
HEADERS = {**KEY, "Content-Type": "application/json", "Accept": ACCEPT}
PART = "\r\ncontent-type: application/json\r\n\r\n"


def posted(http: httpx2.Client, query: str) -> str:
    response = http.post("/graphql", content=orjson.dumps({"query": query}), headers=HEADERS)
    assert response.status_code == 200
    assert response.headers["content-type"] == 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
    return response.text


def test_each_result_is_a_part_that_its_delimiter_ends(http: httpx2.Client) -> None:
    assert posted(http, "subscription { counts(to: 2) }") == (
        f'--graphql{PART}{{"payload":{{"data":{{"counts":0}}}}}}\r\n'
        f'--graphql{PART}{{"payload":{{"data":{{"counts":1}}}}}}\r\n'
        "--graphql--\r\n"
    )


@pytest.mark.parametrize("query", ["subscription { counts", "subscription { nothing }"])
def test_a_document_that_cannot_run_is_a_payload_with_errors(http: httpx2.Client, query: str) -> None:
    begin, end = f'--graphql{PART}{{"payload":', "}\r\n--graphql--\r\n"
    text = posted(http, query)
    assert text.startswith(begin)
    assert text.endswith(end)
    [error] = orjson.loads(text[len(begin) : -len(end)])["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}


def test_an_error_while_iterating_ends_the_stream(http: httpx2.Client) -> None:
    with capture_logs():
        text = posted(http, 'subscription { fails(how: "bug", after: 1) }')
    assert text.count("--graphql") == 3
    assert '{"payload":{"errors":[{"message":"Internal error"' in text
    assert text.endswith("--graphql--\r\n")


async def test_a_quiet_stream_beats(address: str) -> None:
    body = orjson.dumps({"query": 'subscription { never(name: "beating") }'})
    seen = ""
    async with (
        httpx2.AsyncClient(base_url=f"http://{address}", timeout=30, verify=TLS) as client,
        client.stream("POST", "/hasty", content=body, headers=HEADERS) as response,
    ):
        async for text in response.aiter_text():
            seen += text
            if seen.count(f"{PART}{{}}\r\n--graphql") == 2:
                break
    assert seen.startswith(f'--graphql{PART}{{"payload":{{"data":{{"never":0}}}}}}\r\n--graphql{PART}{{}}')
    assert await asyncio.to_thread(WORLD.until, "beating", runs=False)
