"""What is too much: bodies, caps, refusals, waiting; and from where a call may come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import update

from app.delegations.endings import revoke
from app.edge.budget import Room
from app.proxy import endpoint, uploads
from app.proxy.upkeep import flush_refusals
from app.rules.ids import MINUTE, DelegationId
from app.rules.limits import LARGEST_REQUEST
from app.rules.tokens import TokenKind
from app.rules.windows import windows_at
from app.store.engine import Tx, wall_clock
from app.store.tables import RefusalCount
from tests.server.client import Answer, Connection, ask, request
from tests.server.conftest import House, Opening, lending_in
from tests.server.lending import Loan, bearer, ended
from tests.serving import Installation
from tests.upstreams import Answer as Taken
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


# Bodies


async def test_a_body_over_the_terms_is_refused_and_recorded(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, max_request_bytes=100)
    fits, too_large = [await write(house, loan, b"x" * size) for size in (100, 101)]
    assert fits.status == 200
    assert (too_large.status, too_large.code) == (413, "REQUEST_TOO_LARGE")
    assert (await house.lending.dispatches(loan))[too_large.json["dispatchId"]].request_bytes == 101
    assert service.dispatch_ids == [fits.dispatch_id]


async def test_the_largest_body_reaches_the_service_whole(house: House, service: Upstream) -> None:
    service.play = Taken()
    loan = await house.lending.loan(service.port)
    answer = await write(house, loan, b"x" * LARGEST_REQUEST)
    assert answer.status == 200, answer.body
    assert service.seen[0].body == b"x" * LARGEST_REQUEST


async def test_a_body_that_announces_more_is_refused_before_it_is_sent(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    headers = [loan.bearer, ("Content-Length", str(LARGEST_REQUEST + 1)), ("Expect", "100-continue")]
    answer = await ask(house.port, "GET", loan.at(), headers)
    assert (answer.status, answer.code) == (413, "REQUEST_TOO_LARGE")
    assert service.seen == []


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_large_body_is_read_only_for_a_token_that_there_is(house: House, framing: str) -> None:
    unknown = house.lending.keys.mint(TokenKind.LIVE).text
    name, _, value = framing.partition(": ")
    headers = [bearer(unknown), (name, value)]
    answer = await ask(house.port, "GET", "/proxy/receipts-api/v1/receipts/1", headers)  # and no body follows
    assert (answer.status, answer.code) == (401, "TOKEN_INVALID")
    same = await ask(house.port, "GET", "/proxy/receipts-api/v1/receipts/1", [bearer(unknown)])
    assert same.body == answer.body


async def test_large_bodies_have_one_budget_of_memory_and_each_tenant_a_share(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.play = Taken()
    monkeypatch.setattr(uploads, "SHARE", 1_000_000)
    body = b"x" * 600_000
    take, taken, there = Room.take, list[int](), asyncio.Event()

    def take_aloud(room: Room, size: int) -> None:
        take(room, size)
        taken.append(size)
        if sum(taken) == len(body) - 1:
            there.set()

    monkeypatch.setattr(Room, "take", take_aloud)
    async with here() as it:
        loan, others = await it.lending.loan(service.port), await it.lending.loan(service.port)
        async with Connection(it.port) as first:
            head = request("POST", loan.at("/v1/receipts"), [loan.bearer], body)[: -len(body)]
            await first.send(head + body[:-1])
            await there.wait()
            for other, size, status in ((loan, 600_000, 503), (loan, 1, 200), (others, 600_000, 200)):
                answer = await ask(it.port, "POST", other.at("/v1/receipts"), [other.bearer], body[:size])
                assert (answer.status, answer.headers.get("retry-after")) == (
                    status,
                    "1" if status == 503 else None,
                )
            assert (await first.exchange(body[-1:])).status == 200
        after = await ask(it.port, "POST", loan.at("/v1/receipts"), [loan.bearer], body)
        assert after.status == 200


async def test_a_large_body_is_not_read_for_a_right_that_has_ended(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await house.lending.made(revoke, loan.delegate.owner, loan.id, "over")
    headers = [loan.bearer, ("Content-Length", "1000000")]
    answer = await ask(house.port, "GET", loan.at(), headers)  # and no body follows
    assert (answer.status, answer.code) == (403, "DELEGATION_REVOKED")
    await house.lending.expire_token(loan)
    larger = [loan.bearer, ("Content-Length", str(LARGEST_REQUEST + 1))]
    assert (await ask(house.port, "GET", loan.at(), larger)).code == "TOKEN_INVALID"


async def test_a_request_that_came_through_a_gateway_before_is_not_sent_again(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    answer = await ask(house.port, "GET", loan.at(), [loan.bearer, ("Crossgrant-Dispatch-Id", "dsp_1")])
    assert (answer.status, answer.code) == (508, "LOOP_DETECTED")
    assert service.seen == []


async def test_of_a_long_path_that_is_refused_a_part_is_recorded(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    answer = await ask(house.port, "GET", loan.at("/" + "x" * 30_000), [loan.bearer])
    assert answer.status == 404
    ((_, row),) = (await house.lending.dispatches(loan)).items()
    assert len(row.path) < 1_100


async def test_a_body_that_grows_beyond_the_limit_is_cut_off(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    head = request("GET", loan.at(), [loan.bearer, ("Transfer-Encoding", "chunked")])
    piece = b"%x\r\n%b\r\n" % (2**20, b"x" * 2**20)
    async with Connection(house.port) as connection:
        answer = await connection.exchange(head + piece * 10 + b"1\r\nx\r\n")
    assert (answer.status, answer.code) == (413, "REQUEST_TOO_LARGE")
    assert service.seen == []


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_body_that_never_ends_is_given_up_in_time(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(endpoint, "BODY_SECONDS", 0.2)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        name, _, value = framing.partition(": ")
        async with Connection(it.port) as connection:
            answer = await connection.exchange(request("GET", loan.at(), [loan.bearer, (name, value)]))
        assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
        assert answer.ended - answer.began < 5
        assert await it.lending.dispatches(loan) == {}
    assert service.seen == []


async def test_an_encoded_body_is_refused(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    for encoding in ("gzip", "br", "identity, gzip", "x"):
        answer = await write(house, loan, b"x", ("Content-Encoding", encoding))
        assert (answer.status, answer.code) == (415, "ENCODING_NOT_SUPPORTED")
    assert service.seen == []


# Caps


@pytest.mark.parametrize(
    ("limit", "code", "name", "window"),
    [
        ("max_actions_per_hour", "CAP_HOUR", "hour", 0),
        ("max_actions_per_day", "CAP_DAY", "day", 1),
        ("max_actions_per_month", "CAP_MONTH", "month", 2),
    ],
)
async def test_a_full_window_says_when_it_is_empty_again(
    house: House, service: Upstream, limit: str, code: str, name: str, window: int
) -> None:
    limits: dict[str, Any] = {limit: 2}
    loan = await house.lending.loan(service.port, **limits)
    answers = [await read(house, loan) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    full = answers[-1]
    now = windows_at(wall_clock())[window]
    left = (now.end - wall_clock()) / 1_000_000
    wait = int(full.headers["retry-after"])
    assert full.code == code
    assert left <= wait <= left + 10
    length = (now.end - now.start) // 1_000_000
    assert full.headers["ratelimit-policy"] == f'"{name}";q=2;w={length}'
    assert full.headers["ratelimit"] == f'"{name}";r=0;t={wait}'
    assert f"The limit is 2 per {name}; the next one begins in {wait} s." in full.json["detail"]
    assert len(service.seen) == 2
    assert await house.lending.used(loan) == {2}, "a refusal consumes nothing"


async def test_one_full_window_reserves_nothing_in_the_others(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, max_actions_per_hour=1, max_actions_per_day=5)
    assert [(await read(house, loan)).status for _ in range(3)] == [200, 429, 429]
    assert await house.lending.used(loan) == {1}


# Addresses


@pytest.mark.parametrize(
    ("allowed", "status"),
    [
        (["127.0.0.1/32"], 200),
        (["127.0.0.0/8"], 200),
        (["10.0.0.0/8", "127.0.0.1/32"], 200),
        (["10.0.0.0/8"], 403),
        (["::1/128"], 403),
        (["::/0"], 403),
        (["0.0.0.0/0"], 200),
    ],
)
async def test_the_terms_say_from_where(
    house: House, service: Upstream, allowed: list[str], status: int
) -> None:
    loan = await house.lending.loan(service.port, ip_allowlist=tuple(allowed))
    answer = await read(house, loan, ("X-Forwarded-For", "10.0.0.1"), ("Forwarded", "for=10.0.0.1"))
    assert answer.status == status
    assert len(service.seen) == (status == 200)
    if status == 403:
        assert answer.code == "IP_NOT_ALLOWED"
        assert answer.json["detail"].endswith("The gateway sees 127.0.0.1.")


async def test_an_ipv6_caller_is_judged_by_its_address(tmp_path: Any, service: Upstream) -> None:
    async with opened(tmp_path, "--host", "::1") as house:
        statuses = {}
        for network in ("::1/128", "::/0", "127.0.0.0/8", "2001:db8::/32"):
            loan = await house.lending.loan(service.port, ip_allowlist=(network,))
            statuses[network] = (await ask(house.port, "GET", loan.at(), [loan.bearer], host="::1")).status
    assert statuses == {"::1/128": 200, "::/0": 200, "127.0.0.0/8": 403, "2001:db8::/32": 403}


async def test_an_ipv4_caller_of_a_dual_socket_is_judged_as_ipv4(tmp_path: Any, service: Upstream) -> None:
    async with opened(tmp_path, "--host", "::") as house:
        loan = await house.lending.loan(service.port, ip_allowlist=("127.0.0.0/8",))
        if await dual(house.port):
            assert (await read(house, loan)).status == 200
        assert (await ask(house.port, "GET", loan.at(), [loan.bearer], host="::1")).status == 403


async def dual(port: int) -> bool:
    """Whether IPv4 reaches this socket of IPv6."""
    try:
        async with Connection(port):
            return True
    except OSError:
        return False


async def test_whom_a_trusted_proxy_names_is_judged_in_its_place(tmp_path: Any, service: Upstream) -> None:
    trusted = {"trusted_proxies": "127.0.0.0/8,10.0.0.0/8"}
    async with opened(tmp_path, more=trusted) as house:
        loan = await house.lending.loan(service.port, ip_allowlist=("198.51.100.0/24", "2001:db8::/32"))
        named = {
            "198.51.100.7": 200,
            "2001:db8::1": 200,
            "203.0.113.1, 198.51.100.7": 200,
            "198.51.100.7, 203.0.113.1": 403,
            "198.51.100.7, 10.0.0.1": 200,
            "::ffff:198.51.100.7": 200,
            "198.51.100.7:80": 403,
            "nonsense": 403,
            "198.51.100.7, nonsense": 403,
            "": 403,
        }
        for value, status in named.items():
            answer = await read(house, loan, ("X-Forwarded-For", value))
            assert answer.status == status, value
        assert (await read(house, loan)).status == 403


@asynccontextmanager
async def opened(
    folder: Any, *options: str, more: Mapping[str, str] = {}
) -> AsyncIterator[House]:  # never changed
    """A process of the test's own, on SQLite: what is tested here knows no store."""
    installation = Installation(folder, more=more)
    async with installation.serving(*options) as served, lending_in(installation) as lending:
        yield House(served, lending)


# Refusals


async def test_refusals_beyond_sixty_a_minute_are_counted_into_one_pair(house: House) -> None:
    loan = await house.lending.loan()
    answers = await asyncio.gather(*(ask(house.port, "DELETE", loan.at(), [loan.bearer]) for _ in range(150)))

    rows = await house.lending.dispatches(loan)
    named = [answer.json.get("dispatchId") for answer in answers]
    assert {answer.status for answer in answers} == {404}
    assert set(named) - {None} == set(rows), "those beyond have no row, and name none"
    assert max(Counter(row.requested_at // MINUTE for row in rows.values()).values()) == 60

    await house.lending.write(_age, loan.id)
    while await house.lending.write(flush_refusals):  # as upkeep does, and perhaps beside it
        pass
    for entries in await house.lending.ledgers(loan):
        denied = [entry for entry in entries if entry.event == "delegation.denied"]
        assert sorted(filter(None, ended(denied, "delegation.denied"))) == sorted(rows)
        sums = [entry.body["details"]["count"] for entry in denied if entry.dispatch_id is None]
        assert sum(sums) == named.count(None), "one pair for each minute that had more"


async def test_dead_tokens_that_lived_once_are_recorded_and_unknown_ones_are_nobodys(house: House) -> None:
    loan = await house.lending.loan()
    await house.lending.expire_token(loan)
    await read(house, loan)
    rows = await house.lending.dispatches(loan)
    assert [(row.outcome, row.code) for row in rows.values()] == [("REFUSED", "TOKEN_INVALID")]
    for entries in await house.lending.ledgers(loan):
        assert ended(entries, "delegation.denied") == list(rows)


async def read(house: House, loan: Loan, *headers: tuple[str, str]) -> Answer:
    return await ask(house.port, "GET", loan.at(), [loan.bearer, *headers])


async def write(house: House, loan: Loan, body: bytes, *headers: tuple[str, str]) -> Answer:
    return await ask(house.port, "POST", loan.at("/v1/receipts"), [loan.bearer, *headers], body)


def _age(tx: Tx, id: DelegationId) -> None:
    earlier = {"minute": RefusalCount.minute - 2 * MINUTE}
    tx.execute(update(RefusalCount).where(RefusalCount.delegation_id == id).values(earlier))
