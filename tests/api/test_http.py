"""POST /graphql: GraphQL over HTTP as its specification has it, and every body that is none."""

import json
import socket
from collections.abc import Mapping
from contextlib import closing

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from app.api.requests import Media, preferred
from tests.api.conftest import KEY
from tests.api.toy import SECRET

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"

SYNTAX = "{ hello"
VALIDATION = "{ nothing }"
COERCION = "query ($n: Int!) { half(number: $n) }"


def post(
    http: httpx2.Client,
    query: object,
    *,
    accept: str | None = JSON,
    headers: Mapping[str, str] = KEY,
    path: str = "/graphql",
    **more: object,
) -> httpx2.Response:
    given = {"Content-Type": "application/json", **headers}
    if accept is not None:
        given["Accept"] = accept
    return http.post(path, content=orjson.dumps({"query": query, **more}), headers=given)


def code(response: httpx2.Response) -> str:
    """The code of the only error; an answer that is refused has no `data`."""
    body = response.json()
    assert set(body) == {"errors"}
    assert len(body["errors"]) == 1
    found: str = body["errors"][0]["extensions"]["code"]
    return found


def test_a_query_and_a_mutation_are_answered(http: httpx2.Client) -> None:
    assert post(http, "{ hello whoami }").json() == {"data": {"hello": "world", "whoami": "alice"}}
    shouted = post(
        http, "mutation M($w: String!) { shout(word: $w) }", variables={"w": "é"}, operationName="M"
    )
    assert shouted.json() == {"data": {"shout": "É"}}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}, {JSON}", GRAPHQL),
        (f"{JSON}, {GRAPHQL}", JSON),
        (f"{GRAPHQL};q=0.1, {JSON};q=0.9", JSON),
        (f"text/html, {GRAPHQL.upper()}; charset=utf-8", GRAPHQL),
        (f"{GRAPHQL}, {JSON}, text/event-stream, multipart/mixed", GRAPHQL),
    ],
)
def test_the_answer_has_the_media_type_that_the_client_prefers(
    http: httpx2.Client, accept: str | None, content_type: str
) -> None:
    response = post(http, "{ hello }", accept=accept)
    assert (response.status_code, response.json()) == (200, {"data": {"hello": "world"}})
    assert response.headers["content-type"] == f"{content_type}; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ([], Media.JSON),
        (["text/html"], None),
        ([""], None),
        ([f"{JSON};q=0"], None),
        ([f"*/*, {JSON};q=0"], Media.GRAPHQL),
        ([f"{JSON};q=0.5", "text/event-stream"], Media.EVENTS),
        ([f"{JSON};q=nonsense"], Media.JSON),
        (["*/*;q=0.1, text/*"], Media.EVENTS),
        (['multipart/mixed;boundary=graphql;subscriptionSpec="1.0", application/json'], Media.MULTIPART),
        (["multipart/mixed;subscriptionSpec=1.0;q=0.5, application/json"], Media.JSON),
        (["application/json, multipart/mixed;subscriptionSpec=1.0"], Media.JSON),
        (["application/json;q=0.9, multipart/mixed;subscriptionSpec=1.0"], Media.MULTIPART),
        (["multipart/mixed;deferSpec=20220824, application/json"], Media.JSON),
        (["multipart/mixed"], None),
        (["multipart/*"], None),
        (["application/json;callbackSpec=1.0; charset=utf-8"], Media.CALLBACK),
        (["application/json, */*", 'application/json;callbackSpec="1.0"'], Media.CALLBACK),
        (["application/json;callbackSpec=1.0;q=0, application/json"], Media.JSON),
        (["text/event-stream, application/json;callbackSpec=1.0"], Media.EVENTS),
        (["application/json;callbackSpec=2.0"], Media.JSON),
        (["application/*"], Media.JSON),
    ],
)
def test_accept_is_read_by_quality_then_by_order(accept: list[str], media: Media | None) -> None:
    assert preferred(accept) == media


@pytest.mark.parametrize("query", [SYNTAX, VALIDATION, COERCION, "", "fragment F on Query { hello }"])
def test_what_cannot_run_is_200_as_json_and_400_as_graphql_response(http: httpx2.Client, query: str) -> None:
    for accept, status in ((JSON, 200), (GRAPHQL, 400)):
        response = post(http, query, accept=accept)
        assert (response.status_code, code(response)) == (status, "BAD_USER_INPUT")


@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_what_ran_is_200_whatever_became_of_it(http: httpx2.Client, accept: str) -> None:
    partial = post(http, '{ hello fails(how: "bad") }', accept=accept)
    assert (partial.status_code, partial.json()["data"]) == (200, {"hello": "world", "fails": None})
    nothing = post(http, '{ failsHard(how: "bad") }', accept=accept)
    assert (nothing.status_code, nothing.json()["data"]) == (200, None)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"5", b"null", b'"a"', b"[]", b"true", b"{", b"{}", b"\xff", b'{"query": "\xff"}', b"NaN"),
        *(b'{"query": null}', b'{"query": 5}', b'{"query": ["{ hello }"]}', b'[{"query": "{ hello }"}]'),
        *(b'{"query": "{ hello }", "variables": []}', b'{"query": "{ hello }", "variables": "a"}'),
        *(b'{"query": "{ hello }", "operationName": 5}', b'{"query": "{ hello }", "extensions": 5}'),
        *(b"[" * 100_000, b'{"query": "\\ud800"}', b"query=%7Bhello%7D"),
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_a_body_that_is_no_operation_is_400(http: httpx2.Client, body: bytes, accept: str) -> None:
    headers = {**KEY, "Content-Type": "application/json", "Accept": accept}
    response = http.post("/graphql", content=body, headers=headers)
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")
    assert response.headers["content-type"] == f"{accept}; charset=utf-8"


def test_null_members_are_as_if_absent(http: httpx2.Client) -> None:
    response = post(http, "{ hello }", variables=None, operationName=None, extensions=None)
    assert response.json() == {"data": {"hello": "world"}}


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded"),
        *("multipart/form-data; boundary=x", "application/jsonp", "application/json; charset=utf-16"),
    ],
)
def test_another_content_type_is_415_so_no_form_can_act(http: httpx2.Client, content_type: str) -> None:
    response = post(http, 'mutation { shout(word: "x") }', headers={**KEY, "Content-Type": content_type})
    assert response.status_code == 415
    assert code(response) == "NOT_SUPPORTED"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_json_in_utf_8_is_taken_however_it_is_spelt(http: httpx2.Client, content_type: str) -> None:
    assert post(http, "{ hello }", headers={**KEY, "Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("accept", [JSON, "text/event-stream", "text/html"])
def test_only_post_is_answered(http: httpx2.Client, method: str, accept: str) -> None:
    headers = {**KEY, "Accept": accept}
    response = http.request(method, "/graphql", params={"query": "{ hello }"}, headers=headers)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_what_we_cannot_answer_with_is_406(http: httpx2.Client) -> None:
    response = post(http, "{ hello }", accept="text/html, multipart/mixed")
    assert (response.status_code, code(response)) == (406, "NOT_SUPPORTED")
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"


def test_a_body_over_the_limit_is_413_and_the_connection_ends(http: httpx2.Client) -> None:
    response = post(http, "{ hello }" + " " * 2_000, path="/hasty")
    assert (response.status_code, code(response)) == (413, "REQUEST_TOO_LARGE")
    assert response.headers["connection"] == "close"
    assert post(http, "{ hello }" + " " * 1_000, path="/hasty").status_code == 200


def test_without_a_key_less_is_read(http: httpx2.Client) -> None:
    long = "{ __typename }" + " " * 20_000
    assert post(http, long).status_code == 200
    response = post(http, long, headers={})
    assert (response.status_code, code(response)) == (413, "REQUEST_TOO_LARGE")
    assert "X-API-Key" in response.text
    assert response.headers["connection"] == "close"


def test_a_body_that_does_not_end_is_408(address: str) -> None:
    host, port = address.split(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as raw:
        raw.sendall(
            b"POST /hasty HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))  # until the server closes
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in answer


@pytest.mark.parametrize("accept", [JSON, GRAPHQL, "text/event-stream"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "cgk_unknown"}, {"X-API-Key": ""}])
def test_without_a_key_the_answer_is_401(http: httpx2.Client, accept: str, headers: dict[str, str]) -> None:
    response = post(http, "{ hello }", accept=accept, headers=headers)
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "ApiKey"


def test_the_schema_is_public(http: httpx2.Client) -> None:
    answered = post(
        http, '{ __typename __schema { queryType { name } } __type(name: "Thing") { name } }', headers={}
    )
    assert answered.json()["data"]["__schema"] == {"queryType": {"name": "Query"}}


@pytest.mark.parametrize(
    "query",
    [
        *(
            "{ __typename hello }",
            "{ __typename ...F } fragment F on Query { hello }",
            "{ __typename ... { hello } }",
        ),
        *(
            "mutation { __typename }",
            "subscription { __typename }",
            SYNTAX,
            "",
            "fragment F on Query { __typename }",
        ),
        *("{ __typename: hello }", "query A { __typename } query B { hello }"),
    ],
)
def test_nothing_but_the_schema_is_public(http: httpx2.Client, query: str) -> None:
    response = post(http, query, headers={}, operationName="A" if "query A" in query else None)
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")


def test_a_store_that_is_away_is_503_with_retry_after(http: httpx2.Client) -> None:
    response = post(http, "{ hello }", headers={"X-API-Key": "cgk_away"})
    assert (response.status_code, code(response)) == (503, "UNAVAILABLE")
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_a_store_that_goes_away_for_all_that_was_asked_is_503_with_retry_after(
    http: httpx2.Client, accept: str
) -> None:
    response = post(http, '{ failsHard(how: "away") }', accept=accept)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    for partly in ('{ hello fails(how: "away") }', '{ fails(how: "bad") failsHard(how: "away") }'):
        assert post(http, partly, accept=accept).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"query": }', 'line 1, column 11: "unexpected character, expected a JSON value"'),
        (b'{"query": "\xff"}', "byte 12 begins nothing that is UTF-8"),
        (
            b'{"query": "x", "n": 1%b}' % (b"0" * 400),
            'line 1, column 21: "number is infinity when parsed as double"',
        ),
    ],
)
def test_a_body_that_is_no_json_is_told_where(http: httpx2.Client, body: bytes, said: str) -> None:
    response = http.post("/graphql", content=body, headers={**KEY, "Content-Type": JSON})
    assert response.json()["errors"][0]["message"] == f"the body is not JSON in UTF-8, {said}"


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_a_body_that_is_empty_is_told_what_would_be_one(http: httpx2.Client, body: bytes) -> None:
    response = http.post("/graphql", content=body, headers={**KEY, "Content-Type": JSON})
    assert response.json()["errors"][0]["message"] == 'the body is empty: send {"query": "…"}'


@pytest.mark.parametrize("number", [10**19 * 2, -(10**19), 10**30, 10**4000])
def test_an_integer_beyond_64_bits_is_refused_and_not_rounded(http: httpx2.Client, number: int) -> None:
    query = "query ($json: JSON) { echo(input: {json: $json}) { json } }"
    for value in (number, [{"a": number}]):
        body = f'{{"query": "{query}", "variables": {{"json": {json.dumps(value)}}}}}'
        response = http.post(
            "/graphql", content=body, headers={**KEY, "Content-Type": JSON, "Accept": GRAPHQL}
        )
        assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0.1234567890123456789012, "12345678901234567890123"])
def test_what_has_many_digits_and_is_no_such_integer_passes(http: httpx2.Client, number: object) -> None:
    query = "query ($json: JSON) { echo(input: {json: $json}) { json } }"
    response = post(http, query, variables={"json": number})
    assert response.json() == {"data": {"echo": {"json": number}}}


@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_a_fault_of_ours_outside_the_operation_is_500_and_logged(http: httpx2.Client, accept: str) -> None:
    with capture_logs() as logs:
        response = post(http, "{ hello }", headers={"X-API-Key": "cgk_broken"}, accept=accept)
    assert response.status_code == 500
    assert response.json() == {
        "errors": [{"message": "Internal error", "extensions": {"code": "INTERNAL", "requestId": "req_1"}}]
    }
    assert [str(line["exc_info"]) for line in logs] == [SECRET]


def test_a_value_that_is_no_json_is_an_internal_error(http: httpx2.Client) -> None:
    with capture_logs() as logs:
        response = post(http, "{ noJson }")
    assert code(response) == "INTERNAL"
    assert len(logs) == 1


def test_a_subscription_is_refused_where_there_is_one_answer(http: httpx2.Client) -> None:
    response = post(http, "subscription { counts(to: 3) }", accept=GRAPHQL)
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")
    assert "text/event-stream" in response.json()["errors"][0]["message"]


def test_each_operation_has_a_context_of_its_own(http: httpx2.Client) -> None:
    serials = {post(http, "{ serial }").json()["data"]["serial"] for _ in range(3)}
    assert len(serials) == 3


def test_of_several_operations_one_must_be_named(http: httpx2.Client) -> None:
    two = "query A { hello } query B { whoami }"
    assert code(post(http, two)) == "BAD_USER_INPUT"
    assert post(http, two, operationName="B").json() == {"data": {"whoami": "alice"}}
    assert code(post(http, two, operationName="C")) == "BAD_USER_INPUT"
    assert post(http, "query A { hello }").json() == {"data": {"hello": "world"}}
