"""A service that fails: what the caller hears, what is recorded, and whether the reservation comes back."""

import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.proxy import perform
from app.rules.entries import Outcome
from app.store.tables import Dispatch
from tests.server.client import Answer, ask
from tests.server.conftest import House, Opening
from tests.server.lending import Lending, Loan, ended, told_to_its_owner_alone
from tests.server.plays import Flood, Raw
from tests.upstreams import Drop, DropIdle, Hang, Play, Reset, Upstream, sized, upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGEST = 10 * 1024 * 1024  # bytes that are relayed


@pytest_asyncio.fixture(loop_scope="session")
async def closed_port() -> AsyncIterator[int]:
    """Where nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_a_service_that_is_down_costs_nothing(house: House, closed_port: int) -> None:
    loan = await house.lending.loan(closed_port, max_actions_per_hour=1)
    for _ in range(3):
        answer = await call(house.port, loan)
        assert (answer.status, answer.code) == (502, "UPSTREAM_UNREACHABLE")
        assert answer.json["outcome"] == "FAILED"
    assert await house.lending.used(loan) == {0}, "each reservation came back"
    await recorded_alike(house.lending, loan, Outcome.FAILED, "UPSTREAM_UNREACHABLE", 3)


async def test_an_address_that_may_not_be_called_is_not_called(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    # Allowed when it was registered, in a network that the gateway no longer allows.
    await house.lending.move(loan, f"http://127.0.0.2.nip.invalid:{service.port}")
    assert (await call(house.port, loan)).status == 502
    await house.lending.move(loan, f"http://[::1]:{service.port}")
    answer = await call(house.port, loan)
    assert (answer.status, answer.code, answer.json["outcome"]) == (502, "UPSTREAM_DENIED", "FAILED")
    assert service.seen == []
    assert await house.lending.used(loan) == {0}
    told_to_its_owner_alone(
        *await house.lending.ledgers(loan), f"http://[::1]:{service.port}", "a loopback address"
    )
    assert b"::1" not in answer.body
    assert b"loopback" not in answer.body


@pytest.mark.parametrize(
    "play",
    [
        Drop(),
        Reset(0),
        Reset(10),
        Reset(60),
        Reset(500),
        Raw(b"nonsense\r\n\r\n"),
        Raw(b"HTTP/1.1 101 X\r\n\r\n"),
    ],
    ids=["drop", "reset", "reset-in-line", "reset-in-head", "reset-in-body", "nonsense", "101"],
)
async def test_a_service_that_breaks_off_leaves_the_outcome_open(
    house: House, service: Upstream, play: Play
) -> None:
    service.play = play
    loan = await house.lending.loan(service.port, max_actions_per_hour=1)
    answer = await call(house.port, loan)
    assert (answer.status, answer.code) == (502, "UPSTREAM_BROKEN")
    assert answer.json["outcome"] == "INDETERMINATE"
    assert service.dispatch_ids == [answer.dispatch_id], "asked once"
    assert await house.lending.used(loan) == {1}, "it may have had its effect"
    await recorded_alike(house.lending, loan, Outcome.INDETERMINATE, "UPSTREAM_BROKEN")


async def test_a_kept_connection_that_drops_is_not_asked_again(house: House, service: Upstream) -> None:
    service.play = DropIdle()
    loan = await house.lending.loan(service.port)
    statuses = [(await call(house.port, loan)).status for _ in range(6)]
    assert statuses == [200, 502, 200, 502, 200, 502]
    assert len(service.dispatch_ids) == len(set(service.dispatch_ids)) == 6


@pytest.mark.parametrize("limit", ["TOTAL", "IDLE"])
async def test_a_service_that_hangs_is_given_up_in_time(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(perform, limit, 0.2)
    held = service.on("/v1/receipts/1", Hang())
    async with here() as it:
        loan = await it.lending.loan(service.port, max_actions_per_hour=1)
        answer = await call(it.port, loan)
        assert (answer.status, answer.code) == (504, "UPSTREAM_TIMEOUT")
        assert answer.json["outcome"] == "INDETERMINATE"
        assert answer.ended - answer.began < 5
        await held.abandoned.wait()
        assert await it.lending.used(loan) == {1}
        await recorded_alike(it.lending, loan, Outcome.INDETERMINATE, "UPSTREAM_TIMEOUT")


async def test_the_largest_answer_passes_whole(house: House, service: Upstream) -> None:
    service.play = sized(LARGEST)
    loan = await house.lending.loan(service.port)
    answer = await call(house.port, loan)
    assert (answer.status, len(answer.body)) == (200, LARGEST)


@pytest.mark.parametrize("announced", [True, False])
async def test_of_a_larger_answer_not_a_byte_is_sent(
    house: House, service: Upstream, announced: bool
) -> None:
    service.play = Flood(LARGEST + 1, announced)
    loan = await house.lending.loan(service.port)
    answer = await call(house.port, loan)
    assert (answer.status, answer.code) == (502, "UPSTREAM_RESPONSE_TOO_LARGE")
    assert answer.json["outcome"] == "FAILED"
    assert "content-security-policy" not in answer.headers, "a whole answer of ours, nothing of the service's"
    (row,) = await recorded_alike(house.lending, loan, Outcome.FAILED, "UPSTREAM_RESPONSE_TOO_LARGE")
    assert row.upstream_status == 200
    assert await house.lending.used(loan) == {1}, "it has had its effect"


async def test_a_request_goes_where_the_service_is_now(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await call(house.port, loan)
    async with upstream() as moved:
        await house.lending.move(loan, f"{moved.url}/base")
        assert (await call(house.port, loan)).status == 200
        assert [seen.path for seen in moved.seen] == ["/base/v1/receipts/1"]
        assert moved.seen[0].header("X-Service-Key") is None, "another origin never gets the old credential"
    assert len(service.seen) == 1


async def call(port: int, loan: Loan) -> Answer:
    return await ask(port, "GET", loan.at(), [loan.bearer])


async def recorded_alike(
    lending: Lending, loan: Loan, outcome: Outcome, code: str, count: int = 1
) -> list[Dispatch]:
    """The delegation's dispatches, each with this outcome in its row and in one entry of each ledger."""
    rows = await lending.admitted(loan)
    assert [(row.outcome, row.code) for row in rows.values()] == [(outcome, code)] * count
    for entries in await lending.ledgers(loan):
        actions = [entry for entry in entries if entry.event == "delegation.action"]
        assert sorted(ended(actions)) == sorted(rows)
        assert {(entry.outcome, entry.body["code"]) for entry in actions} == {(outcome, code)}
    return list(rows.values())
