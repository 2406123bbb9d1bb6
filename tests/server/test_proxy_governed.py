"""Governed terms at the proxy, over sockets: guards, costs, trust, sandboxes, and the upstream's own guardrail."""

import asyncio
from typing import Any

import orjson
import pytest

from app.delegations.endings import revoke
from app.delegations.suspension import resume, suspend
from app.delegations.trust import report_trust
from app.inventory.upstreams import Credential, UpstreamChanges, list_upstreams, update_upstream
from app.rules.windows import WindowKind
from app.store.engine import Tx
from tests.server.client import Answer, ask
from tests.server.conftest import House
from tests.server.lending import CREDENTIAL, EVERYWHERE, Loan, ended, told_to_its_owner_alone
from tests.upstreams import Answer as Told
from tests.upstreams import Hang, Upstream, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

JSON = ("Content-Type", "application/json")
GUARD = "/guard"


async def write(house: House, loan: Loan, body: bytes = b'{"total":1}', *headers: tuple[str, str]) -> Answer:
    """An action that carries a body."""
    return await ask(house.port, "POST", loan.at("/v1/receipts"), [loan.bearer, JSON, *headers], body)


async def change(house: House, loan: Loan, **changes: Any) -> None:
    """Changes the lent service."""
    await house.lending.made(_change, house, loan, UpstreamChanges(**changes))


def _change(tx: Tx, house: House, loan: Loan, changes: UpstreamChanges) -> object:
    owner = loan.delegator.owner
    (service,) = list_upstreams(tx, owner)
    return update_upstream(tx, owner, house.lending.keys, EVERYWHERE, service.id, changes)


async def refused(house: House, loan: Loan, answer: Answer, status: int, code: str) -> None:
    """A refusal that both ledgers know and that used up nothing."""
    assert (answer.status, answer.code) == (status, code), answer.body
    dispatch_id = answer.json["dispatchId"]
    assert (await house.lending.dispatches(loan))[dispatch_id].outcome == "REFUSED"
    for ledger in await house.lending.ledgers(loan):
        assert dispatch_id in ended(ledger, "delegation.denied")
        assert dispatch_id not in ended(ledger, "delegation.action")
    assert await house.lending.used(loan) <= {0}


# What the terms and the action say of the content


@pytest.mark.parametrize(
    ("given", "body", "code"),
    [
        ({"deny_patterns": ("(?i)secret",)}, b'{"note":"a \\u0053ecret"}', "PATTERN_DENIED"),
        ({"deny_patterns": ("(?i)secret",)}, b"\xff\xfes\x00e\x00c\x00", "BODY_UNREADABLE"),
        ({"deny_patterns": ("(?i)secret",)}, b'{"a":1,"a":"secret"}', "BODY_UNREADABLE"),
        ({"condition": "request.body.total <= 100"}, b'{"total":101}', "CONDITION_NOT_MET"),
        ({"condition": "request.body.total <= 100"}, b'{"sum":1}', "CONDITION_NOT_MET"),
        ({"condition": 'request.method == "GET"'}, b"{}", "CONDITION_NOT_MET"),
        ({"max_request_bytes": 3}, b'{"total":1}', "REQUEST_TOO_LARGE"),
    ],
)
async def test_what_a_guard_denies_is_never_sent(
    house: House, service: Upstream, given: dict[str, Any], body: bytes, code: str
) -> None:
    loan = await house.lending.loan(service.port, **given)
    await refused(
        house, loan, await write(house, loan, body), 413 if code == "REQUEST_TOO_LARGE" else 403, code
    )
    assert service.seen == []


async def test_what_no_guard_denies_is_sent_as_it_came(house: House, service: Upstream) -> None:
    guards: dict[str, Any] = {
        "deny_patterns": ("secret",),
        "condition": "request.body.total <= 100 && request.bytes < 50",
    }
    loan = await house.lending.loan(service.port, **guards)
    body = b'{ "total" : 12.50 }'
    for _ in range(2):  # judged by guards that were not known yet, and by those that were
        assert (await write(house, loan, body)).status == 200
    assert [seen.body for seen in service.seen] == [body, body]


async def test_a_replay_is_judged_by_the_guards_too(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, condition="request.bytes < 50")
    key = ("Idempotency-Key", "one")
    first = await write(house, loan, b'{"total":1}', key)
    again = await write(house, loan, b'{"total":1}', key)
    assert (again.status, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.body == first.body
    assert len(service.seen) == 1


async def test_an_action_takes_only_what_its_schema_describes(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, acts=())
    (row,) = await house.lending.read(list_upstreams, loan.delegator.owner)
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}
    await house.lending.action(
        loan.delegator, row, "receipts:write", "POST", "/v1/receipts", request_schema=schema
    )
    await refused(house, loan, await write(house, loan, b'{"total":"much"}'), 403, "SCHEMA_MISMATCH")
    await refused(house, loan, await write(house, loan, b"total=1"), 403, "BODY_UNREADABLE")
    assert (await write(house, loan, b'{"total":1}')).status == 200


async def test_a_costly_action_takes_its_units_and_is_refused_where_too_few_are_left(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port, acts=(), max_cost_units_per_month=7)
    (row,) = await house.lending.read(list_upstreams, loan.delegator.owner)
    await house.lending.action(loan.delegator, row, "receipts:write", "POST", "/v1/receipts", cost_units=3)
    assert [(await write(house, loan)).status for _ in range(3)] == [200, 200, 429]
    assert await house.lending.used(loan, WindowKind.COST_MONTH) == {6}
    assert await house.lending.used(loan, WindowKind.HOUR) == {2}
    full = await write(house, loan)
    assert (full.code, full.headers["ratelimit-policy"].split(";")[0]) == ("CAP_COST", '"cost_month"')
    for ledger in await house.lending.ledgers(loan):
        told = [entry for entry in ledger if entry.event == "delegation.quota_exhausted"]
        assert [(entry.body["details"]["kind"], entry.body["details"]["used"]) for entry in told] == [
            ("COST_MONTH", 6)
        ]


# Trust, and rights that rest


async def test_trust_counts_at_the_next_dispatch(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, require_trust_score_above=70)
    heard = []
    for score in (None, 70, 71, 12, 99):
        if score is not None:
            await house.lending.made(report_trust, None, loan.actor.id, score, "an audit")
        answer = await write(house, loan)
        heard.append(answer.status if answer.status == 200 else answer.code)
    assert heard == ["TRUST_TOO_LOW", "TRUST_TOO_LOW", 200, "TRUST_TOO_LOW", 200]
    for ledger in await house.lending.ledgers(loan):
        moved = [entry.event for entry in ledger if entry.event.startswith("binding.trust")]
        assert moved == ["binding.trust_regained", "binding.trust_lost", "binding.trust_regained"]


@pytest.mark.parametrize("end", ["suspended", "distrusted"])
async def test_a_right_that_rests_withholds_what_is_under_way(
    house: House, service: Upstream, end: str
) -> None:
    loan = await house.lending.loan(service.port, require_trust_score_above=70)
    await house.lending.made(report_trust, None, loan.actor.id, 80, "an audit")
    hang = service.on("/v1/receipts", Hang())
    asked = asyncio.ensure_future(write(house, loan))
    await hang.reached.wait()
    if end == "suspended":
        await house.lending.made(suspend, loan.delegator.owner, loan.id, "a doubt")
    else:
        await house.lending.made(report_trust, None, loan.actor.id, 7, "an audit")
    answer = await asked
    code = {"suspended": "DELEGATION_SUSPENDED", "distrusted": "TRUST_TOO_LOW"}[end]
    assert (answer.status, answer.code) == (403, code)
    assert "withheld" in answer.json["detail"]
    hang.release()
    if end == "suspended":
        assert (await write(house, loan)).code == code
        await house.lending.made(resume, loan.delegator.owner, loan.id)
    else:
        await house.lending.made(report_trust, None, loan.actor.id, 71, "an audit")
    assert (await write(house, loan)).status == 200


# Sandboxes


async def test_a_sandbox_delegation_leads_to_the_sandbox_with_its_credential_alone(
    house: House, service: Upstream
) -> None:
    async with upstream() as sandbox:
        loan = await house.lending.loan(service.port, environment="SANDBOX")
        assert loan.token.startswith("cgt_test_")
        await refused(house, loan, await write(house, loan), 502, "NO_SANDBOX")
        own = Credential("X-Service-Key", "known to the sandbox alone")
        await change(house, loan, sandbox_base_url=f"{sandbox.url}/test")
        assert (await write(house, loan)).status == 200
        await change(house, loan, sandbox_credential=own)
        assert (await write(house, loan)).status == 200
        assert service.seen == []
        assert [seen.path for seen in sandbox.seen] == ["/test/v1/receipts"] * 2
        assert [seen.header("X-Service-Key") for seen in sandbox.seen] == [None, own.value]
        assert CREDENTIAL.value not in repr([seen.headers for seen in sandbox.seen])


async def test_a_live_delegation_never_leads_to_the_sandbox(house: House, service: Upstream) -> None:
    async with upstream() as sandbox:
        loan = await house.lending.loan(service.port)
        own = Credential("X-Service-Key", "known to the sandbox alone")
        await change(house, loan, sandbox_base_url=sandbox.url, sandbox_credential=own)
        assert (await write(house, loan)).status == 200
        assert [seen.header("X-Service-Key") for seen in service.seen] == [CREDENTIAL.value]
        assert sandbox.seen == []


# The upstream's own guardrail


async def guarded(house: House, service: Upstream, said: bytes, **given: Any) -> Loan:
    """A loan whose upstream has a guardrail beside it, which says this."""
    loan = await house.lending.loan(service.port, **given)
    service.on(GUARD, Told(said))
    await change(house, loan, guardrail_url=service.url + GUARD)
    return loan


def sent(service: Upstream) -> list[str]:
    """What reached the service itself."""
    return [seen.path for seen in service.seen if seen.path != GUARD]


async def test_a_guardrail_hears_what_would_be_done_and_gets_no_credential(
    house: House, service: Upstream
) -> None:
    loan = await guarded(house, service, b'{"decision":"allow"}')
    answer = await write(house, loan, b'{"total": 1}')
    assert answer.status == 200
    asked, done = service.seen
    assert asked.path == GUARD
    question: Any = asked.json
    assert question == {
        "dispatchId": answer.dispatch_id,
        "delegationId": loan.id,
        "termsVersion": 1,
        "actingTenantId": loan.delegate.id,
        "actingAgentId": loan.actor.id,
        "action": "receipts:write",
        "upstreamName": "receipts-api",
        "method": "POST",
        "path": "/v1/receipts",
        "query": "",
        "contentType": "application/json",
        "body": '{"total": 1}',
    }
    assert asked.header("X-Service-Key") is None
    assert asked.header("Crossgrant-Assertion") == done.header("Crossgrant-Assertion")
    assert asked.dispatch_id == done.dispatch_id


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b'{"decision":"deny"}', 403, "GUARDRAIL_DENIED"),
        (b'{"decision":"perhaps"}', 503, "GUARDRAIL_UNAVAILABLE"),
        (b'{"decision":["allow"]}', 503, "GUARDRAIL_UNAVAILABLE"),
        (b'["allow"]', 503, "GUARDRAIL_UNAVAILABLE"),
        (b"allow", 503, "GUARDRAIL_UNAVAILABLE"),
        (b"", 503, "GUARDRAIL_UNAVAILABLE"),
        (b'{"decision":"allow"}' + b" " * 100_000, 503, "GUARDRAIL_UNAVAILABLE"),
    ],
)
async def test_whatever_is_not_allowed_is_refused_and_given_back(
    house: House, service: Upstream, said: bytes, status: int, code: str
) -> None:
    loan = await guarded(house, service, said, max_actions_per_hour=1)
    key = ("Idempotency-Key", "one")
    await refused(house, loan, await write(house, loan, b"{}", key), status, code)
    assert sent(service) == []
    service.on(GUARD, Told(b'{"decision":"allow"}'))
    again = await write(house, loan, b"{}", key)  # neither the cap nor the key is used up
    assert (again.status, "idempotency-replayed" in again.headers) == (200, False)


@pytest.mark.parametrize(
    "said", [Told(b'{"decision":"allow"}', 500), Told(b'{"decision":"allow"}', 302), Hang()]
)
async def test_a_guardrail_that_fails_or_is_late_lets_nothing_through(
    house: House, service: Upstream, said: Any
) -> None:
    loan = await guarded(house, service, b"")
    service.on(GUARD, said)
    answer = await write(house, loan)
    await refused(house, loan, answer, 503, "GUARDRAIL_UNAVAILABLE")
    assert answer.ended - answer.began < 5  # half a second, and what a busy machine adds to it
    assert sent(service) == []


async def test_a_guardrail_that_nobody_serves_lets_nothing_through(house: House, service: Upstream) -> None:
    loan = await guarded(house, service, b"")
    await change(house, loan, guardrail_url="http://127.0.0.1:9/guard")
    await refused(house, loan, await write(house, loan), 503, "GUARDRAIL_UNAVAILABLE")


async def test_why_a_guardrail_may_not_be_called_is_told_to_its_owner_alone(
    house: House, service: Upstream
) -> None:
    loan = await guarded(house, service, b"")
    await change(house, loan, guardrail_url="http://[::1]:9/guard")
    answer = await write(house, loan)
    await refused(house, loan, answer, 503, "GUARDRAIL_UNAVAILABLE")
    told_to_its_owner_alone(*await house.lending.ledgers(loan), "http://[::1]:9/guard", "a loopback address")
    assert b"::1" not in answer.body


async def test_a_right_that_ends_while_the_guardrail_thinks_is_refused_and_nothing_is_sent(
    house: House, service: Upstream
) -> None:
    loan = await guarded(house, service, b"")
    thinks = service.on(GUARD, Hang(Told(b'{"decision":"allow"}')))
    asked = asyncio.ensure_future(write(house, loan))
    await thinks.reached.wait()
    await house.lending.made(revoke, loan.delegator.owner, loan.id, "over")
    answer = await asked
    await refused(house, loan, answer, 403, "DELEGATION_REVOKED")
    thinks.release()
    assert sent(service) == []
    assert orjson.loads(answer.body)["outcome"] == "REFUSED"
