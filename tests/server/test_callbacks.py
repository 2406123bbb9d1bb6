"""Subscriptions over callbacks: what a router is asked and told, and when that ends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from sqlalchemy import update
from typing_extensions import override

from app.api.pages import log_of
from app.delivery.callbacks import sending
from app.delivery.callbacks.asked import asked_in
from app.egress import names
from app.egress.client import CONNECT, Egress
from app.egress.origins import Reach
from app.egress.outcomes import Outbound, Outcome
from app.rules.errors import BadInput
from app.rules.ids import TenantId
from app.rules.permissions import Role
from app.store.engine import Tx
from app.store.tables import ApiKey
from tests.server.client import ask, data
from tests.server.conftest import House
from tests.server.routers import ACCEPT, PROTOCOL, Router, none_left, router, subscribe, subscriptions
from tests.server.streams import EVENTS, REVOKE_KEY, a_key, logged
from tests.upstreams import Answer, Upstream
from tests.world import LOOPBACK

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def federated() -> AsyncIterator[Router]:
    """One router for all tests that leave it as it is."""
    async with router() as running:
        yield running


async def test_a_router_agrees_and_is_told_what_comes(
    house: House, service: Upstream, federated: Router
) -> None:
    loan = await house.lending.loan(service.port)
    wanted = federated.wants()
    answer = await subscribe(house.port, loan.delegator.key, wanted.extension)
    assert (answer.status, answer.json) == (200, {"data": None})
    assert answer.headers["subscription-protocol"] == "callback/1.0"
    assert len(federated.messages(wanted, "check")) == 1, "before the answer"
    ids = [(await ask(house.port, "GET", loan.at(), [loan.bearer])).dispatch_id for _ in range(5)]
    await federated.until(lambda: len(federated.edges(wanted)) == 5)
    assert [edge["node"]["dispatchId"] for edge in federated.edges(wanted)] == ids
    assert federated.edges(wanted) == (await logged(house.port, loan.delegator))[-5:]


async def test_it_begins_after_a_cursor_and_ends_with_404(
    house: House, service: Upstream, federated: Router
) -> None:
    loan = await house.lending.loan(service.port)
    first, *rest = await logged(house.port, loan.delegator)
    wanted = await federated.subscribed(house.port, loan.delegator.key, {"after": first["cursor"]})
    await federated.until(lambda: len(federated.edges(wanted)) == len(rest))
    assert federated.edges(wanted) == rest
    federated.give_up(wanted)
    await ask(house.port, "GET", loan.at(), [loan.bearer])
    await none_left(house.lending, loan.delegator)


async def test_heartbeats_come_a_quarter_early_and_end_with_404(house: House, federated: Router) -> None:
    member = await house.lending.tenant()
    wanted = await federated.subscribed(house.port, member.key, heartbeat=1000)
    await federated.until(lambda: len(federated.times(wanted, "check")) == 3)
    one, two, three = federated.times(wanted, "check")
    assert 0.7 < min(two - one, three - two) < 1, "seconds, where the machine is not too busy for one of them"
    federated.give_up(wanted)
    await none_left(house.lending, member)


@pytest.mark.parametrize(
    ("how", "code"),
    [("revoked", "UNAUTHENTICATED"), ("expired", "UNAUTHENTICATED"), ("downgraded", "FORBIDDEN")],
)
async def test_it_is_completed_when_its_key_ends_or_may_less_and_is_told_nothing_later(
    house: House, federated: Router, how: str, code: str
) -> None:
    member = await house.lending.tenant()
    expires_at = house.lending.later(1) if how == "expired" else None
    role = Role.OWNER if how == "downgraded" else Role.AUDITOR
    key, key_id = await a_key(house.lending, member, expires_at, role)
    wanted = await federated.subscribed(house.port, key)
    other = await federated.subscribed(house.port, member.key)
    if how == "revoked":
        await data(house.port, member.key, REVOKE_KEY, id=key_id)
    elif how == "downgraded":
        await house.lending.store.write(_downgrade, key_id)
    if how != "expired":
        await house.lending.agent(member)
        await federated.until(lambda: bool(federated.edges(other)))
    assert await federated.ended(wanted) == code
    assert federated.edges(wanted) == []
    federated.give_up(other)
    await house.lending.agent(member)
    await none_left(house.lending, member)


def _downgrade(tx: Tx, key_id: str) -> None:
    tx.execute(update(ApiKey).where(ApiKey.id == key_id).values(role=Role.AUDITOR))


async def test_what_is_wrong_is_said_and_nothing_is_asked_or_made(house: House, federated: Router) -> None:
    member = await house.lending.tenant()
    good = federated.wants()
    beyond = log_of(TenantId(member.id)).cursor(10_000)

    async def refusal(
        extension: object, variables: Mapping[str, object] | None = None, query: str = EVENTS
    ) -> tuple[str, str]:
        answer = await subscribe(house.port, member.key, extension, variables, query=query)
        [error] = answer.json["errors"]
        assert "data" not in answer.json
        return error["extensions"]["code"], error["message"]

    inside = "extensions.subscription"
    for name, values, said in (
        ("callbackUrl", [None, 7, ""], "must be"),
        ("callbackUrl", ["http://10.0.0.1/", "https://[::1]/", "http://169.254.169.254/"], "must be on the"),
        ("callbackUrl", ["ftp://example.com/", "example.com"], "must be absolute"),
        ("callbackUrl", ["http://example.com/?id=1"], "must not hold a query"),
        ("callbackUrl", ["http://me@example.com/"], "must not hold a user name or a password: leave"),
        ("callbackUrl", ["http://example.com/" + "x" * 2048], "must have at most 2048 characters"),
        ("subscriptionId", [None, "", 7, "x" * 201, "a\0b"], "must be a string of 1 to 200 printable"),
        ("verifier", [None, "", {}, "x" * 201, "\n"], "must be a string of 1 to 200 printable"),
        ("heartbeatIntervalMs", [-1, 1, 999, 3_600_001, 1.5, "5000", True], "must be 0, for none, or an"),
    ):
        for value in values:
            code, message = await refusal({**good.extension, name: value})
            assert code == "BAD_USER_INPUT"
            assert message.startswith(f"{inside}.{name} {said}"), message
    for wrong in (None, 7, "callback"):
        assert (await refusal(wrong))[1].startswith(f"{inside} must be an object")
    for variables, query, named in (
        ({"after": "nonsense"}, EVENTS, "after"),
        ({"after": beyond}, EVENTS, "after"),
        ({"events": ["binding.*"] * 51}, EVENTS, "events"),
        ({}, "subscription { nothing }", "Cannot query field"),
        ({"more": "x" * 32_768}, EVENTS, "query has"),
        ({}, f"{EVENTS} # \0", "query must not hold"),
    ):
        code, message = await refusal(good.extension, variables, query)
        assert (code, message.startswith(named)) == ("BAD_USER_INPUT", True), message
    viewer, _ = await a_key(house.lending, member, role=Role.VIEWER)
    answer = await subscribe(house.port, viewer, good.extension)
    assert answer.json["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    answer = await subscribe(house.port, "no key", good.extension)
    assert answer.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert federated.messages(good, "check") == []
    assert await subscriptions(house.lending, member) == []


async def test_plain_http_is_refused_where_the_gateway_takes_no_other(federated: Router) -> None:
    with pytest.raises(BadInput, match="callbackUrl must start with https://"):
        asked_in(federated.wants().extension, Reach(LOOPBACK, require_https=True))


async def test_a_router_that_repeats_itself_has_one_subscription(house: House, federated: Router) -> None:
    member = await house.lending.tenant()
    wanted = await federated.subscribed(house.port, member.key)
    again = await subscribe(house.port, member.key, wanted.extension)
    assert again.json == {"data": None}
    for name, value in (("verifier", "another"), ("heartbeatIntervalMs", 5000)):
        answer = await subscribe(house.port, member.key, {**wanted.extension, name: value})
        [error] = answer.json["errors"]
        assert error["message"].startswith("extensions.subscription.subscriptionId names another")
    [row] = await subscriptions(house.lending, member)
    assert wanted.verifier not in row.sealed_verifier
    await house.lending.agent(member)
    await federated.until(lambda: bool(federated.edges(wanted)))
    federated.give_up(wanted)
    await house.lending.agent(member)
    await none_left(house.lending, member)
    assert len(federated.edges(wanted)) == 1


async def test_a_router_that_asks_again_when_it_was_over_has_another_one(
    house: House, federated: Router
) -> None:
    member = await house.lending.tenant()
    wanted = await federated.subscribed(house.port, member.key)
    seen = len(federated.at.seen)
    federated.give_up(wanted)
    await house.lending.agent(member)
    await federated.at.saw(seen + 1)
    federated.taking.given_up.discard(wanted.id)
    again = await subscribe(house.port, member.key, wanted.extension)
    assert again.json == {"data": None}
    await house.lending.agent(member)
    await federated.until(lambda: bool(federated.edges(wanted)))
    assert len(await subscriptions(house.lending, member)) == 1
    federated.give_up(wanted)
    await house.lending.agent(member)
    await none_left(house.lending, member)


async def test_only_a_router_agrees_not_whoever_says_200_to_everything(house: House) -> None:
    member = await house.lending.tenant()
    async with router() as it:
        it.at.play = Answer()
        answer = await subscribe(house.port, member.key, it.wants().extension)
        [error] = answer.json["errors"]
        assert "failed: it answered with status 200; a router answers it with 204" in error["message"]
        it.at.play = Answer(headers=[PROTOCOL])
        assert (await subscribe(house.port, member.key, it.wants().extension)).json == {"data": None}
        it.at.play = Answer(status=204, body=b"", headers=())
        assert (await subscribe(house.port, member.key, it.wants().extension)).json == {"data": None}
        it.at.play = Answer(status=404)
        await house.lending.agent(member)
        await none_left(house.lending, member)


class _Counted(Egress):
    """Has how many POSTs began in each turn of the event loop."""

    def __init__(self) -> None:
        super().__init__(LOOPBACK)
        self.turn = 0
        self.begun: Counter[int] = Counter()

    async def ticking(self) -> None:
        """Counts the loop's turns."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    @override
    async def send(self, out: Outbound, *, total: float, idle: float, limit: int) -> Outcome:
        self.begun[self.turn] += 1
        return await super().send(out, total=total, idle=idle, limit=limit)


async def _most_in_a_turn(federated: Router) -> int:
    egress = _Counted()
    ticking = asyncio.ensure_future(egress.ticking())
    to = [
        sending.Router(TenantId("ten_1"), federated.at.url, str(number), "verifier") for number in range(60)
    ]
    try:
        post = sending.Post(egress)
        await asyncio.gather(*(post.once(each, each.check()) for each in to))
    finally:
        ticking.cancel()
        await egress.close()
    return max(egress.begun.values())


async def test_what_is_due_at_once_for_one_tenant_leaves_the_loop_to_the_others(
    federated: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = sending._IN_A_TURN
    assert await _most_in_a_turn(federated) <= most
    monkeypatch.setattr(sending, "_IN_A_TURN", 1000)  # the broken variant: all that are due begin together
    assert await _most_in_a_turn(federated) > most


async def test_one_tenants_names_that_nobody_answers_for_leave_threads_to_the_others() -> None:
    longest = 20.0  # seconds: what a resolver with two servers takes unless told, twice 5 s for each
    assert sending._OF_TENANT * longest / CONNECT <= names._THREADS


async def test_what_is_no_subscription_is_answered_as_ever(house: House, federated: Router) -> None:
    member = await house.lending.tenant()
    answer = await subscribe(house.port, member.key, None, query="{ __typename }")
    assert (answer.json, answer.headers["content-type"]) == (
        {"data": {"__typename": "Query"}},
        "application/json; charset=utf-8",
    )
    wanted = federated.wants()
    for accept in (f"{ACCEPT}; charset=utf-8", f"application/json, */*, {ACCEPT}"):
        answer = await subscribe(house.port, member.key, wanted.extension, accept=accept)
        assert answer.json == {"data": None}
    [error] = (await subscribe(house.port, member.key, wanted.extension, accept="application/json")).json[
        "errors"
    ]
    assert "callbackSpec=1.0" in error["message"]
    federated.give_up(wanted)
    await house.lending.agent(member)
    await none_left(house.lending, member)
