"""The proxy's happy path: what goes on the wire to the service, and what of its answer comes back."""

import asyncio
import time

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from tests.server.client import Connection, ask
from tests.server.conftest import House
from tests.server.lending import CREDENTIAL, Entry, ended
from tests.server.plays import bodiless, chunked
from tests.server.waiting import until_settled
from tests.upstreams import Answer, Echo, Hang, Upstream, gzipped, redirect, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: What a caller may send along, and what reaches the service of it.
FORWARDED = {
    "accept": "application/json",
    "accept-language": "de",
    "content-type": "application/json",
    "content-language": "de",
    "if-match": '"1"',
    "if-none-match": '"2"',
    "if-modified-since": "Fri, 20 Nov 2026 10:00:00 GMT",
    "if-unmodified-since": "Fri, 20 Nov 2026 10:00:01 GMT",
    "prefer": "return=minimal",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=b",
}
#: What is the caller's own business, or would frame, route or pose.
DROPPED = {
    "Cookie": "session=1",
    "X-API-Key": "cgk_none",
    "X-Forwarded-For": "198.51.100.1",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "198.51.100.1",
    "Forwarded": "for=198.51.100.1",
    "Via": "1.1 somebody",
    "TE": "trailers",
    "Connection": "keep-alive, X-Hop",
    "X-Hop": "1",
    "Keep-Alive": "timeout=5",
    "Proxy-Authorization": "Basic eDp5",
    "Origin": "https://evil.test",
    "Referer": "https://evil.test/",
    "User-Agent": "a caller",
    "Accept-Encoding": "gzip, br",
    "X-Custom": "1",
    "X_Service_Key": "a guess",
    "X-Service-Key": "a guess",
    "Crossgrant-Assertion": "forged",
    "Idempotency-Key": "once",
    "Expires": "0",
}


async def test_the_service_receives_the_allowed_headers_the_credential_and_who_calls(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    body = b'{"total": 12.5}'
    headers = [loan.bearer, *FORWARDED.items(), *DROPPED.items()]

    answer = await ask(house.port, "POST", loan.at("/v1/receipts") + "?a=1&b=%20x", headers, body)

    assert answer.status == 200
    (seen,) = service.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/receipts?a=1&b=%20x", body)
    of_ours = {
        "host": f"127.0.0.1:{service.port}",
        "user-agent": "Crossgrant",
        "accept-encoding": "identity",
        "content-length": str(len(body)),
        CREDENTIAL.header.lower(): CREDENTIAL.value,
        "crossgrant-dispatch-id": answer.dispatch_id,
        "crossgrant-assertion": seen.header("crossgrant-assertion"),
    }
    assert dict(seen.headers) == {**FORWARDED, **of_ours}
    assert len(seen.headers) == len(FORWARDED) + len(of_ours), "each of them once"


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # the name that upstreams' libraries know
async def test_the_assertion_verifies_against_the_published_keys_and_names_who_acts(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    await ask(house.port, "GET", loan.at(), [loan.bearer])
    published = await ask(house.port, "GET", "/.well-known/jwks.json")
    assertion = service.seen[0].header("crossgrant-assertion")

    assert published.headers["content-type"] == "application/json"
    assert all("d" not in key for key in published.json["keys"]), "public halves alone"
    token = jwt.decode(assertion or "", KeySet.import_key_set(published.json), algorithms=["EdDSA"])
    JWTClaimsRegistry(iss={"essential": True, "value": house.served.url}).validate(token.claims)
    assert token.claims["exp"] - token.claims["iat"] == 60
    assert abs(token.claims["iat"] - time.time()) < 30
    assert token.claims["aud"] == token.claims["targetTenant"] == loan.delegator.id
    assert token.claims["actingTenant"] == loan.delegate.id
    assert token.claims["sub"] == loan.actor.id
    assert token.claims["delegation"] == loan.id
    assert token.claims["binding"] == loan.binding_id


async def test_the_answer_brings_the_allowed_headers_and_guards_alone(
    house: House, service: Upstream
) -> None:
    described = {
        "content-type": "text/html",
        "content-language": "de",
        "content-disposition": "inline",
        "etag": '"7"',
        "last-modified": "Fri, 20 Nov 2026 10:00:00 GMT",
        "retry-after": "7",
    }
    acting = {
        "Set-Cookie": "a=b",
        "Location": "/elsewhere",
        "Refresh": "0; url=https://evil.test",
        "Content-Security-Policy": "default-src *",
        "X-Content-Type-Options": "sniff",
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": "public, max-age=9",
        "Clear-Site-Data": '"*"',
        "Strict-Transport-Security": "max-age=1",
        "WWW-Authenticate": "Basic",
        "Link": "</x>; rel=preload",
        "Server": "secret/1.0",
        "X-Request-Id": "forged",
    }
    service.play = Answer(b"<p>hello", headers=[*described.items(), *acting.items()])
    loan = await house.lending.loan(service.port)

    answer = await ask(house.port, "GET", loan.at(), [loan.bearer])

    assert answer.body == b"<p>hello"
    assert service.dispatch_ids == [answer.dispatch_id]
    own = {
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "crossgrant-dispatch-id": answer.dispatch_id,
        "content-length": "8",
    }
    assert answer.lasting_headers == {**described, **own}
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_status_passes_through(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    for status in (200, 201, 202, 206, 300, 400, 401, 404, 409, 418, 429, 500, 503, 599):
        service.play = Answer(b"as told", status)
        answer = await ask(house.port, "GET", loan.at(), [loan.bearer])
        assert (answer.status, answer.body) == (status, b"as told")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_leaves_the_connection_in_step(
    house: House, service: Upstream, status: int
) -> None:
    service.on("/v1/receipts/none", bodiless(status))
    loan = await house.lending.loan(service.port)
    async with Connection(house.port) as connection:
        empty = await connection.ask("GET", loan.at("/v1/receipts/none"), [loan.bearer])
        next_one = await connection.ask("GET", loan.at("/v1/receipts/1"), [loan.bearer])
    assert (empty.status, empty.body) == (status, b"")
    assert "content-length" not in empty.headers
    assert (next_one.status, next_one.json["path"]) == (200, "/v1/receipts/1")


async def test_head_is_sent_as_head_and_has_no_body(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    async with Connection(house.port) as connection:
        head = await connection.ask("HEAD", loan.at(), [loan.bearer])
        get = await connection.ask("GET", loan.at(), [loan.bearer])
    assert (head.status, get.status, get.json["method"]) == (200, 200, "GET")
    assert [seen.method for seen in service.seen] == ["HEAD", "GET"]


async def test_a_redirect_is_not_followed_and_its_target_not_told(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    async with upstream() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            service.play = redirect(f"{elsewhere.url}/stolen", status)
            answer = await ask(house.port, "POST", loan.at("/v1/receipts"), [loan.bearer], b"{}")
            assert answer.status == status
            assert "location" not in answer.headers
    assert len(service.seen) == 5
    assert elsewhere.seen == []


async def test_a_compressed_answer_passes_as_it_is(house: House, service: Upstream) -> None:
    compressed = gzipped(b"x" * 100_000)
    service.play = compressed
    loan = await house.lending.loan(service.port)
    answer = await ask(house.port, "GET", loan.at(), [loan.bearer])
    assert answer.body == compressed.body
    assert answer.headers["content-encoding"] == "gzip"


async def test_an_answer_without_a_length_arrives_whole(house: House, service: Upstream) -> None:
    service.play = chunked([b"one ", b"two ", b"three"])
    loan = await house.lending.loan(service.port)
    answer = await ask(house.port, "GET", loan.at(), [loan.bearer])
    assert (answer.status, answer.body) == (200, b"one two three")


async def test_the_path_on_the_wire_is_the_one_spelling_of_what_was_authorised(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    wired = {
        "/v1/receipts/%41bc": "/v1/receipts/Abc",
        "/v1/receipts/a%20b": "/v1/receipts/a%20b",
        "/v1/receipts/caf%C3%A9": "/v1/receipts/caf%C3%A9",
        "/v1/receipts/caf%c3%a9": "/v1/receipts/caf%C3%A9",
        "/v1/receipts/a%3Bb": "/v1/receipts/a%3Bb",
        "/v1/receipts/~1,2:@": "/v1/receipts/~1,2:@",
        "/v1/receipts/a+b": "/v1/receipts/a%2Bb",
        "/v1/receipts/1?": "/v1/receipts/1",
        "/v1/receipts/1?x=%2e%2e/../a&y": "/v1/receipts/1?x=%2e%2e/../a&y",
    }
    for path in wired:
        assert (await ask(house.port, "GET", loan.at(path), [loan.bearer])).status == 200, path
    assert [seen.path for seen in service.seen] == list(wired.values())


async def test_every_witness_knows_the_same_dispatches(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)

    async def call(number: int) -> str | None:
        return (await ask(house.port, "GET", loan.at(f"/v1/receipts/{number}"), [loan.bearer])).dispatch_id

    told = await asyncio.gather(*(call(number) for number in range(100)))

    delegator, delegate = await house.lending.ledgers(loan)
    rows = await house.lending.admitted(loan)
    assert len(set(told)) == 100
    assert set(told) == set(service.dispatch_ids) == set(rows)
    assert sorted(ended(delegator)) == sorted(ended(delegate)) == sorted(rows)
    assert {row.outcome for row in rows.values()} == {"COMPLETED"}
    assert _pairs(delegator) == _pairs(delegate)


async def test_both_ledgers_tell_what_was_done(house: House, service: Upstream) -> None:
    service.play = Answer(b'{"id": 1}', 201)
    loan = await house.lending.loan(service.port)
    answer = await ask(house.port, "POST", loan.at("/v1/receipts"), [loan.bearer], b"12345")

    for entries in await house.lending.ledgers(loan):
        (entry,) = [entry for entry in entries if entry.event == "delegation.action"]
        assert entry.dispatch_id == answer.dispatch_id
        assert entry.outcome == "COMPLETED"
        assert entry.body["actor"] is None, "an agent acted by itself"
        assert entry.body["action"] == "receipts:write"
        assert entry.body["actingAgentId"] == loan.actor.id
        told = {name: entry.body["details"][name] for name in ("method", "path", "upstreamStatus")}
        assert told == {"method": "POST", "path": "/v1/receipts", "upstreamStatus": 201}
        assert (entry.body["details"]["requestBytes"], entry.body["details"]["responseBytes"]) == (5, 9)


async def test_a_caller_that_hangs_up_takes_nothing_back(house: House, service: Upstream) -> None:
    held = service.on("/v1/receipts/slow", Hang(then=Echo()))
    loan = await house.lending.loan(service.port)
    async with Connection(house.port) as connection:
        call = asyncio.ensure_future(connection.ask("GET", loan.at("/v1/receipts/slow"), [loan.bearer]))
        await held.reached.wait()
        call.cancel()
    held.release()

    rows = await until_settled(house.lending, loan)
    assert [row.outcome for row in rows.values()] == ["COMPLETED"]
    assert set(rows) == set(service.dispatch_ids)
    for entries in await house.lending.ledgers(loan):
        assert ended(entries) == list(rows)


def _pairs(entries: list[Entry]) -> set[tuple[str | None, str]]:
    return {(entry.dispatch_id, entry.pair_id) for entry in entries if entry.event == "delegation.action"}
