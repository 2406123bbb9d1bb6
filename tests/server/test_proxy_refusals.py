"""Who gets nothing at the proxy, and what they hear: one answer to every dead token, a code for everything else."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import update

from app.delegations.bindings import revoke_binding
from app.delegations.endings import Revoked, revoke
from app.inventory.agents import AgentChanges, update_agent
from app.rules.ids import DAY, DelegationId
from app.rules.tokens import TokenKind
from app.store.engine import Tx
from app.store.tables import Delegation
from tests.server.client import Answer, ask, graphql
from tests.server.conftest import House
from tests.server.lending import Lending, Loan, bearer, ended
from tests.server.waiting import until
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_every_dead_token_gets_the_same_answer_byte_by_byte(house: House, service: Upstream) -> None:
    alive, rotated, expired = [await house.lending.loan(service.port) for _ in range(3)]
    await rotate(house.lending, rotated)
    await house.lending.expire_token(expired)
    answers = [await call(house, loan) for loan in (rotated, expired)]
    answers += [await call(house, alive, token) for token in never_alive(house, alive)]

    assert {(answer.status, answer.code) for answer in answers} == {(401, "TOKEN_INVALID")}
    assert len({answer.body for answer in answers}) == 1
    assert all(answer.lasting_headers == answers[0].lasting_headers for answer in answers)
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert service.seen == []


def never_alive(house: House, alive: Loan) -> list[str]:
    """Tokens that never opened anything."""
    keys = house.lending.keys
    return [
        keys.mint(TokenKind.LIVE).text,
        keys.mint(TokenKind.OFFER).text,
        alive.delegate.key,
        alive.token[:-1] + ("0" if alive.token[-1] != "0" else "1"),
        alive.token[:-1],
        alive.token + "x",
        alive.token.upper(),
        "cgt_live_",
        "cgt_live_" + "é" * 49,
        "none",
        "",
    ]


async def test_a_token_shown_in_another_way_is_no_token(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    for scheme in ("Basic {}", "Token {}", "{}", "Bearer", "Bearer  x {}", "Bearer {}, x"):
        answer = await ask(house.port, "GET", loan.at(), [("Authorization", scheme.format(loan.token))])
        assert (answer.status, answer.code) == (401, "TOKEN_INVALID")
    assert (await ask(house.port, "GET", loan.at())).code == "TOKEN_INVALID"
    assert service.seen == []


async def test_the_scheme_is_read_in_any_case(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    assert (
        await ask(house.port, "GET", loan.at(), [("authorization", f"bEARER {loan.token}")])
    ).status == 200


async def test_a_rotated_token_opens_until_its_overlap_ends_and_its_successor_at_once(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    successor = await rotate(house.lending, loan, overlap=60)
    assert [(await call(house, loan, token)).status for token in (loan.token, successor)] == [200, 200]
    last = await rotate(house.lending, loan)
    outcomes = [(await call(house, loan, token)).status for token in (loan.token, successor, last)]
    assert outcomes == [401, 401, 200]


async def test_a_revoked_delegation_is_refused_with_its_code(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    assert (await call(house, loan)).status == 200
    done = await house.lending.write(revoke, loan.delegator.owner, loan.id, "enough")
    assert isinstance(done, Revoked)
    await refused(house, loan, 403, "DELEGATION_REVOKED")
    assert len(service.seen) == 1


async def test_a_delegation_expires_by_the_clock_alone(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, lives=0.5)
    assert (await call(house, loan)).status == 200

    async def over() -> bool:
        return (await call(house, loan)).status != 200

    await until(over)
    await refused(house, loan, 403, "DELEGATION_EXPIRED")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("PENDING", "DELEGATION_PENDING"),
        ("VALIDATING", "DELEGATION_PENDING"),
        ("SUSPENDED", "DELEGATION_SUSPENDED"),
    ],
)
async def test_a_delegation_that_is_not_active_admits_nothing(
    house: House, service: Upstream, status: str, code: str
) -> None:
    loan = await house.lending.loan(service.port)
    await house.lending.write(_put, loan.id, status)
    await refused(house, loan, 403, code)
    assert service.seen == []


async def test_a_revoked_binding_is_refused_and_its_siblings_are_not(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    other = await house.lending.another(loan)
    await house.lending.write(revoke_binding, loan.delegator.owner, loan.binding_id, None)
    await refused(house, loan, 403, "BINDING_REVOKED")
    assert (await call(house, other)).status == 200


async def test_what_no_action_allows_is_not_found(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    for target in (
        "/proxy/receipts-api/v1/receipts",
        "/proxy/receipts-api/v2/receipts/1",
        "/proxy/receipts-api/v1/receipts/1/lines",
        "/proxy/receipts-api/",
        "/proxy/receipts-api",
        "/proxy/Receipts-Api/v1/receipts/1",
        "/proxy/unknown/v1/receipts/1",
        "/proxy/",
    ):
        answer = await ask(house.port, "GET", target, [loan.bearer])
        assert (answer.status, answer.code) == (404, "ACTION_NOT_FOUND"), target
    assert service.seen == []


async def test_an_action_that_was_not_lent_answers_like_one_that_does_not_exist(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    not_lent = await ask(house.port, "DELETE", loan.at(), [loan.bearer])
    nowhere = await ask(house.port, "DELETE", loan.at("/v9/nothing"), [loan.bearer])
    assert (not_lent.status, not_lent.code) == (404, "ACTION_NOT_FOUND")
    assert _but_ids(not_lent) == _but_ids(nowhere)
    assert service.seen == []


async def test_a_scope_taken_from_the_agent_ends_at_once(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    owner, agent = loan.delegator.owner, loan.agent.id
    await house.lending.write(update_agent, owner, agent, AgentChanges(scopes=["receipts:write"]))
    await refused(house, loan, 404, "ACTION_NOT_FOUND")
    assert (await call(house, loan, method="PUT")).status == 200


async def test_each_refusal_is_a_pair_in_both_ledgers_and_one_dispatch(house: House) -> None:
    loan = await house.lending.loan()
    answers = [await ask(house.port, "DELETE", loan.at(), [loan.bearer]) for _ in range(5)]

    told = [answer.dispatch_id for answer in answers]
    rows = await house.lending.dispatches(loan)
    delegator, delegate = await house.lending.ledgers(loan)
    assert [answer.json["dispatchId"] for answer in answers] == told
    assert {answer.json["outcome"] for answer in answers} == {"REFUSED"}
    assert set(told) == set(rows)
    assert sorted(ended(delegator, "delegation.denied")) == sorted(rows)
    assert sorted(ended(delegate, "delegation.denied")) == sorted(rows)
    assert {(row.outcome, row.code) for row in rows.values()} == {("REFUSED", "ACTION_NOT_FOUND")}


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
async def test_a_scoped_token_is_nobody_at_graphql(house: House, name: str) -> None:
    loan = await house.lending.loan()
    value = loan.token if name == "X-API-Key" else f"Bearer {loan.token}"
    headers = [
        (name, value),
        ("Content-Type", "application/json"),
        ("Accept", "application/graphql-response+json"),
    ]
    answer = await ask(house.port, "POST", "/graphql", headers, b'{"query": "{ viewer { subject } }"}')
    assert answer.status == 401
    assert answer.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_an_api_key_is_nobody_at_the_proxy_and_somebody_at_graphql(house: House) -> None:
    loan = await house.lending.loan()
    assert (await call(house, loan, loan.delegate.key)).status == 401
    answer = await graphql(house.port, loan.delegate.key, "{ viewer { subject } }")
    assert answer.json == {"data": {"viewer": {"subject": "owner"}}}


async def call(house: House, loan: Loan, token: str | None = None, method: str = "GET") -> Answer:
    """One call with a token, the loan's own unless told."""
    shown = bearer(loan.token if token is None else token)
    return await ask(house.port, method, loan.at(), [(shown[0], shown[1].encode().decode("latin-1"))])


async def refused(house: House, loan: Loan, status: int, code: str) -> None:
    answer = await call(house, loan)
    assert (answer.status, answer.code) == (status, code)


async def rotate(lending: Lending, loan: Loan, overlap: int = 0) -> str:
    """The binding's new token."""
    return (await lending.rotate(loan.lent, overlap)).token.text


def _put(tx: Tx, id: DelegationId, status: str) -> None:
    later = {"offer_expires_at": tx.now() + DAY} if status == "PENDING" else {}
    tx.execute(update(Delegation).where(Delegation.id == id).values(status=status, **later))


def _but_ids(answer: Answer) -> tuple[int, dict[str, Any], Sequence[str]]:
    known = {name: value for name, value in answer.json.items() if name != "dispatchId"}
    return answer.status, known, sorted(answer.headers)
