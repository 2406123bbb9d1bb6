"""The edges that are no business of a delegation: odd bodies at /graphql, health, readiness, metrics."""

import asyncio
import os
import re
from contextlib import aclosing
from pathlib import Path

import pytest

from app.api.view import View
from tests.flows.couriers import endpoint
from tests.postgres import Postgres
from tests.server.client import Answer, Connection, ask, graphql, request
from tests.server.conftest import House, Opening
from tests.server.holding import away
from tests.server.lending import Loan
from tests.server.streams import events
from tests.server.waiting import until
from tests.serving import Installation
from tests.upstreams import Upstream, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

JSON = ("Content-Type", "application/json")

#: Bodies that hold no operation, each with the status of an answer in application/graphql-response+json.
ODD = [
    *(
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"query": "{ viewer { subject } }"',
        b"5",
        b"null",
        b"true",
        b'"a"',
        b"[]",
    ),
    *(b'[{"query": "{ viewer { subject } }"}]', b"{}", b'{"query": null}', b'{"query": 5}', b'{"query": ""}'),
    *(b'{"query": "{"}', b'{"query": "{ nothing }"}', b'{"query": "{ viewer { subject } }", "variables": 5}'),
    *(
        b'{"query": "{ viewer { subject } }", "operationName": 5}',
        b'{"query": "{ viewer { subject } }", "operationName": "x"}',
    ),
    *(
        b'{"query": "query ($x: ID!) { node(id: $x) { id } }"}',
        b'{"query": "subscription { delegationEvents { cursor } }"}',
    ),
    *(b'{"query": "\\ud800"}', b'{"query": "{ viewer { subject } }", "extensions": []}', b"[" * 100_000),
    b'{"query": "' + b"{a" * 10_000 + b'"}',
]


async def test_an_odd_body_at_graphql_is_the_clients_fault(house: House) -> None:
    member = await house.lending.tenant()
    headers = [JSON, ("X-API-Key", member.key), ("Accept", "application/graphql-response+json")]
    for body in ODD:
        answer = await ask(house.port, "POST", "/graphql", headers, body)
        assert 400 <= answer.status < 500, body[:80]
        (error,) = answer.json["errors"]
        assert error["extensions"]["code"] in ("BAD_USER_INPUT", "QUERY_TOO_COMPLEX"), body[:80]
        assert "data" not in answer.json
    assert (await graphql(house.port, member.key, "{ viewer { subject } }")).status == 200


async def test_an_odd_request_at_graphql_has_its_own_status(house: House) -> None:
    member = await house.lending.tenant()
    key, body = ("X-API-Key", member.key), b'{"query": "{ viewer { subject } }"}'
    statuses = {
        "GET": (await ask(house.port, "GET", "/graphql", [key])).status,
        "PUT": (await ask(house.port, "PUT", "/graphql", [key, JSON], body)).status,
        "no type": (await ask(house.port, "POST", "/graphql", [key], body)).status,
        "a form": (
            await ask(house.port, "POST", "/graphql", [key, ("Content-Type", "text/plain")], body)
        ).status,
        "accepts HTML": (
            await ask(house.port, "POST", "/graphql", [key, JSON, ("Accept", "text/html")], body)
        ).status,
        "too large": (
            await ask(house.port, "POST", "/graphql", [key, JSON], b" " * (1024 * 1024 + 1))
        ).status,
        "fine": (await ask(house.port, "POST", "/graphql", [key, JSON], body)).status,
    }
    assert statuses == {
        "GET": 405,
        "PUT": 405,
        "no type": 415,
        "a form": 415,
        "accepts HTML": 406,
        "too large": 413,
        "fine": 200,
    }


async def test_a_body_that_never_ends_at_graphql_is_given_up_in_time(
    here: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "body_seconds", 0.2)
    async with here() as it:
        member = await it.lending.tenant()
        headers = [JSON, ("X-API-Key", member.key), ("Transfer-Encoding", "chunked")]
        async with Connection(it.port) as connection:
            answer = await connection.exchange(request("GET", "/graphql", headers).replace(b"GET", b"POST"))
        assert answer.status == 408
        assert answer.json["errors"][0]["extensions"]["code"] == "REQUEST_TIMEOUT"


async def test_a_path_where_nothing_lives_is_not_found(house: House) -> None:
    for path in ("/", "/index.html", "/graphql/", "/metrics/x", "/.well-known/x", "/proxy"):
        answer = await ask(house.port, "GET", path)
        assert (answer.status, answer.code) == (404, "NOT_FOUND"), path


# Health and readiness


async def test_a_gateway_with_its_store_is_ready(house: House) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await ask(house.port, "GET", path)
        assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert (await ask(house.port, "HEAD", path)).status == 200
        assert (await ask(house.port, "POST", path)).status == 405


async def test_a_gateway_without_its_store_lives_but_is_not_ready(postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as dsn:
        installation = Installation(tmp_path, dsn)
        async with installation.serving() as served:
            async with away(installation):
                answer = await ask(served.port, "GET", "/readyz")
                assert (answer.status, answer.code) == (503, "UNAVAILABLE")
                assert (await ask(served.port, "GET", "/healthz")).status == 200

            async def ready() -> bool:
                return (await ask(served.port, "GET", "/readyz")).status == 200

            assert await until(ready), "it is ready again when the store is back"


async def test_a_gateway_whose_file_is_damaged_lives_but_is_not_ready(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    async with installation.serving() as served:
        await installation.tenant("acme")  # so that what readers remember is out of date
        for path in (installation.settings.sqlite_path, tmp_path / "crossgrant.db-wal"):
            os.truncate(path, 0)
        answer = await ask(served.port, "GET", "/readyz")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert (await ask(served.port, "GET", "/healthz")).status == 200


METRICS = {
    "crossgrant_dispatches_total",
    "crossgrant_admission_seconds_count",
    "crossgrant_upstream_seconds_count",
    "crossgrant_completion_seconds_count",
    "crossgrant_batch_size_count",
    "crossgrant_ledger_append_lag_seconds_count",
    "crossgrant_in_flight",
    "crossgrant_queue_depth",
    "crossgrant_webhook_attempt_seconds_count",
    "crossgrant_subscribers",
    "agent_share_active_total",
    "agent_share_unauthorized_attempt_total",
    "agent_share_revocation_time_seconds_count",
    "agent_share_cross_tenant_success_rate",
}


DELIVERED: dict[str, float] = {
    'crossgrant_webhook_attempts_total{result="accepted"}': 1,
    "crossgrant_webhook_attempt_seconds_count": 1,
}


async def test_metrics_tell_of_a_dispatch_a_refusal_and_a_revocation(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    before = await measured(house.port)
    assert {name.partition("{")[0] for name in before} >= METRICS
    for _ in range(3):
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    await ask(house.port, "DELETE", loan.at(), [loan.bearer])
    await revoked(house.port, loan)
    after = await measured(house.port)

    def moved(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert moved('crossgrant_dispatches_total{code="",outcome="COMPLETED"}') == 3
    assert moved('crossgrant_dispatches_total{code="ACTION_NOT_FOUND",outcome="REFUSED"}') == 1
    assert moved("agent_share_unauthorized_attempt_total") == 1
    assert moved("agent_share_revocation_time_seconds_count") == 1
    assert moved("crossgrant_admission_seconds_count") == 4
    assert moved("crossgrant_completion_seconds_count") == 3
    assert moved("crossgrant_upstream_seconds_count") == 3
    assert moved("crossgrant_batch_size_sum") == 7
    assert moved("agent_share_active_total") == -1
    assert (after["crossgrant_in_flight"], after["crossgrant_queue_depth"]) == (0, 0)
    assert 0 < after["agent_share_cross_tenant_success_rate"] < 1
    assert not any(loan.delegator.id in name or loan.delegate.id in name for name in after), (
        "no tenant labels"
    )


async def test_metrics_are_for_this_machine_or_who_holds_the_token(house: House, tmp_path: Path) -> None:
    forwarded = [("X-Forwarded-For", "198.51.100.1")]
    assert (await ask(house.port, "GET", "/metrics", forwarded)).status == 403
    token = "a token for the metrics"
    async with Installation(tmp_path, more={"metrics_token": token}).serving() as served:
        shown = {
            name: (await ask(served.port, "GET", "/metrics", headers)).status
            for name, headers in {
                "none": [],
                "wrong": [("Authorization", "Bearer wrong")],
                "other": [("Authorization", f"Basic {token}")],
                "right": [("Authorization", f"Bearer {token}")],
                "from afar": [("Authorization", f"Bearer {token}"), *forwarded],
            }.items()
        }
    assert shown == {"none": 401, "wrong": 401, "other": 401, "right": 200, "from afar": 200}


async def test_metrics_tell_who_listens(house: House) -> None:
    acme = await house.lending.tenant()
    before = await measured(house.port)

    async def moved(by: dict[str, float]) -> bool:
        now = await measured(house.port)
        return by == {name: now.get(name, 0) - before.get(name, 0) for name in by}

    stream = events(house.port, acme.key, "sse", after=None)
    async with aclosing(stream), upstream() as receiver:
        following = asyncio.ensure_future(anext(stream))
        await until(lambda: moved({"crossgrant_subscribers": 1}))
        await endpoint(house.lending, acme, f"{receiver.url}/", ["agent.*"])
        await house.lending.agent(acme)
        await until(lambda: moved(DELIVERED))
        await following
    await until(lambda: moved({"crossgrant_subscribers": 0}))


async def measured(port: int) -> dict[str, float]:
    """Every sample by its name and labels."""
    text = (await ask(port, "GET", "/metrics")).body.decode()
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*) (\S+)$", text, re.MULTILINE)}


async def revoked(port: int, loan: Loan) -> Answer:
    mutation = 'mutation ($id: ID!) { revokeDelegation(input: {delegationId: $id, reason: "x"}) { userErrors { code } } }'
    return await graphql(port, loan.delegator.key, mutation, id=loan.id)
