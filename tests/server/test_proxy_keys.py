"""Idempotency-Key: a promise of the caller's that two requests are one, kept for a day within one binding."""

import asyncio

import pytest
from sqlalchemy import update

from app.inventory.agents import AgentChanges, update_agent
from app.proxy.answers import KEPT
from app.proxy.upkeep import purge_keys
from app.rules.ids import DAY, BindingId
from app.store.engine import Tx
from app.store.tables import IdempotencyKey
from tests.server.client import Answer, ask
from tests.server.conftest import House
from tests.server.lending import Loan, bearer, ended
from tests.server.plays import Raw
from tests.server.waiting import until, until_settled
from tests.upstreams import Answer as Told
from tests.upstreams import Drop, Echo, Hang, Play, Reset, Upstream, sized

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPLAYED = "idempotency-replayed"
BODY = b'{"total":1}'


async def test_a_repeat_gets_the_first_answer_and_is_not_sent_again(house: House, service: Upstream) -> None:
    service.play = Told(b'{"id":1}', 201, [("Content-Type", "application/json"), ("ETag", '"1"')])
    loan = await house.lending.loan(service.port, max_actions_per_hour=1)
    first, *repeats = [await post(house, loan, "k") for _ in range(3)]
    assert (first.status, first.body) == (201, b'{"id":1}')
    assert REPLAYED not in first.headers
    for repeat in repeats:
        assert (repeat.status, repeat.body) == (201, b'{"id":1}')
        assert repeat.lasting_headers == {**first.lasting_headers, REPLAYED: "true"}
    assert service.dispatch_ids == [first.dispatch_id]
    assert await house.lending.used(loan) == {1}, "a replay is no admission"
    assert list(await house.lending.dispatches(loan)) == [first.dispatch_id]
    for entries in await house.lending.ledgers(loan):
        assert ended(entries) == [first.dispatch_id]


async def test_a_header_that_is_no_text_is_passed_on_and_kept_as_it_came(
    house: House, service: Upstream
) -> None:
    service.play = Raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; \xff\r\nContent-Length: 2\r\n\r\nok")
    loan = await house.lending.loan(service.port)
    first, repeat = await post(house, loan, "k"), await post(house, loan, "k")
    assert [answer.headers["content-type"] for answer in (first, repeat)] == ["text/plain; \xff"] * 2
    assert (first.status, first.body, repeat.body) == (200, b"ok", b"ok")
    for entries in await house.lending.ledgers(loan):
        assert ended(entries) == [first.dispatch_id]


async def test_a_repeat_while_the_first_runs_is_told_so(house: House, service: Upstream) -> None:
    held = service.on("/v1/receipts", Hang(then=Echo()))
    loan = await house.lending.loan(service.port)
    running = asyncio.ensure_future(post(house, loan, "k"))
    await held.reached.wait()
    meanwhile = await post(house, loan, "k")
    assert (meanwhile.status, meanwhile.code) == (409, "IDEMPOTENCY_IN_PROGRESS")
    held.release()
    first, after = await running, await post(house, loan, "k")
    assert (first.status, after.status, after.body) == (200, 200, first.body)
    assert service.dispatch_ids == [first.dispatch_id]


async def test_of_many_at_once_one_is_sent(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    answers = await asyncio.gather(*(post(house, loan, "k") for _ in range(50)))
    assert {answer.status for answer in answers} <= {200, 409}
    released = {answer.dispatch_id for answer in answers if answer.status == 200}
    assert service.dispatch_ids == list(released)
    assert len({answer.body for answer in answers if answer.status == 200}) == 1


async def test_another_request_under_the_key_is_refused(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await ask(house.port, "PUT", loan.at("/v1/receipts/1"), [loan.bearer, key("k")], b"one")
    others: list[tuple[str, str, bytes]] = [
        ("PUT", "/v1/receipts/1", b"two"),
        ("PUT", "/v1/receipts/2", b"one"),
        ("PUT", "/v1/receipts/1?x=1", b"one"),
        ("PATCH", "/v1/receipts/1", b"one"),
    ]
    for method, path, body in others:
        answer = await ask(house.port, method, loan.at(path), [loan.bearer, key("k")], body)
        assert (answer.status, answer.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(service.seen) == 1


async def test_a_key_is_its_bindings_own(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    other = await house.lending.another(loan)
    first, second = await post(house, loan, "k"), await post(house, other, "k")
    assert (first.status, second.status) == (200, 200)
    assert service.dispatch_ids == [first.dispatch_id, second.dispatch_id]


async def test_an_answer_too_large_to_keep_is_named_and_not_repeated(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    service.play = sized(KEPT)
    assert [(await post(house, loan, "small")).status for _ in range(2)] == [200, 200]
    service.play = sized(KEPT + 1)
    first, repeat = [await post(house, loan, "large") for _ in range(2)]
    assert (first.status, len(first.body)) == (200, KEPT + 1)
    assert (repeat.status, repeat.code) == (409, "ANSWER_NOT_KEPT")
    assert (repeat.json["dispatchId"], repeat.json["outcome"]) == (first.dispatch_id, "COMPLETED")
    assert len(service.seen) == 2


@pytest.mark.parametrize("play", [Drop(), Reset(50)], ids=["drop", "reset"])
async def test_an_open_outcome_is_repeated_and_never_sent_again(
    house: House, service: Upstream, play: Play
) -> None:
    service.play = play
    loan = await house.lending.loan(service.port)
    first = await post(house, loan, "k")
    service.play = Echo()
    repeat = await post(house, loan, "k")
    assert (repeat.status, repeat.code, repeat.json) == (first.status, "UPSTREAM_BROKEN", first.json)
    assert repeat.json["outcome"] == "INDETERMINATE"
    assert repeat.headers[REPLAYED] == "true"
    assert service.dispatch_ids == [first.dispatch_id]


async def test_an_idempotent_action_is_sent_again_after_an_open_outcome(
    house: House, service: Upstream
) -> None:
    service.play = Drop()
    loan = await house.lending.loan(service.port)
    first = await ask(house.port, "PATCH", loan.at(), [loan.bearer, key("k")], b"{}")
    service.play = Echo()
    again, repeat = [
        await ask(house.port, "PATCH", loan.at(), [loan.bearer, key("k")], b"{}") for _ in range(2)
    ]
    assert (first.status, again.status, repeat.status) == (502, 200, 200)
    assert service.dispatch_ids == [first.dispatch_id, again.dispatch_id]
    assert repeat.body == again.body


async def test_a_withheld_answer_stays_withheld_when_the_right_is_back(
    house: House, service: Upstream
) -> None:
    held = service.on("/v1/receipts", Hang(then=Echo()))
    loan = await house.lending.loan(service.port)
    running = asyncio.ensure_future(post(house, loan, "k"))
    await held.reached.wait()
    await change_scopes(house, loan, "receipts:read")
    held.release()
    first = await running
    assert (first.status, first.code, first.json["outcome"]) == (403, "ACTION_NOT_FOUND", "WITHHELD")

    await change_scopes(house, loan, "receipts:read", "receipts:write")
    repeat = await post(house, loan, "k")
    assert (repeat.status, repeat.json) == (403, first.json)
    assert repeat.headers[REPLAYED] == "true"
    assert service.dispatch_ids == [first.dispatch_id]


async def test_a_refusal_frees_the_key(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await change_scopes(house, loan, "receipts:read")
    refused = await post(house, loan, "k")
    await change_scopes(house, loan, "receipts:read", "receipts:write")
    again = await post(house, loan, "k")
    assert (refused.status, again.status) == (404, 200)
    assert REPLAYED not in again.headers
    assert service.dispatch_ids == [again.dispatch_id]


async def test_a_request_that_was_never_sent_frees_the_key(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await house.lending.move(loan, "http://127.0.0.1:9")
    failed = await post(house, loan, "k")
    await house.lending.move(loan, service.url)
    again = await post(house, loan, "k")
    assert (failed.status, failed.json["outcome"], again.status) == (502, "FAILED", 200)
    assert service.dispatch_ids == [again.dispatch_id]


async def test_a_repeat_needs_the_right_like_any_other(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    await post(house, loan, "k")
    token = (await house.lending.rotate(loan.lent)).token
    assert (await post(house, loan, "k")).status == 401
    fresh = await ask(house.port, "POST", loan.at("/v1/receipts"), [bearer(token.text), key("k")], BODY)
    assert (fresh.status, fresh.headers[REPLAYED]) == (200, "true")
    await change_scopes(house, loan, "receipts:read")
    ended_scope = await ask(house.port, "POST", loan.at("/v1/receipts"), [bearer(token.text), key("k")], BODY)
    assert (ended_scope.status, ended_scope.code) == (404, "ACTION_NOT_FOUND")
    assert len(service.seen) == 1


async def test_a_key_holds_for_a_day_and_is_then_purged(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    first = await post(house, loan, "k")
    await house.lending.write(_age, loan.binding_id, DAY - 60_000_000)
    assert (await post(house, loan, "k")).dispatch_id == first.dispatch_id
    await house.lending.write(_age, loan.binding_id, 60_000_000)
    again = await post(house, loan, "k")
    assert again.dispatch_id != first.dispatch_id
    assert (await post(house, loan, "k")).dispatch_id == again.dispatch_id

    await house.lending.write(_age, loan.binding_id, DAY)

    async def purged() -> bool:
        await house.lending.write(purge_keys)  # as upkeep does, and perhaps beside it
        return not await house.lending.rows(IdempotencyKey, IdempotencyKey.binding_id == loan.binding_id)

    await until(purged)
    assert len(service.seen) == 2


async def test_a_caller_that_hung_up_finds_its_answer_by_the_key(house: House, service: Upstream) -> None:
    held = service.on("/v1/receipts", Hang(then=Echo()))
    loan = await house.lending.loan(service.port)
    call = asyncio.ensure_future(post(house, loan, "k"))
    await held.reached.wait()
    call.cancel()
    held.release()
    (sent,) = await until_settled(house.lending, loan)
    answer = await post(house, loan, "k")
    assert (answer.status, answer.dispatch_id, answer.headers[REPLAYED]) == (200, sent, "true")
    assert service.dispatch_ids == [sent]


@pytest.mark.parametrize(("length", "status"), [(0, 400), (1, 200), (255, 200), (256, 400)])
async def test_a_key_has_up_to_255_characters(
    house: House, service: Upstream, length: int, status: int
) -> None:
    loan = await house.lending.loan(service.port)
    assert (await post(house, loan, "k" * length)).status == status
    assert len(service.seen) == (status == 200)


def key(text: str) -> tuple[str, str]:
    return "Idempotency-Key", text


async def post(house: House, loan: Loan, text: str) -> Answer:
    """The same request each time."""
    return await ask(house.port, "POST", loan.at("/v1/receipts"), [loan.bearer, key(text)], BODY)


async def change_scopes(house: House, loan: Loan, *scopes: str) -> None:
    """The lent agent holds these from now on."""
    await house.lending.made(
        update_agent, loan.delegator.owner, loan.agent.id, AgentChanges(scopes=list(scopes))
    )


def _age(tx: Tx, id: BindingId, by: int) -> None:
    older = {"created_at": IdempotencyKey.created_at - by}
    tx.execute(update(IdempotencyKey).where(IdempotencyKey.binding_id == id).values(older))
