"""What the process says of a request: its id and its dispatch's, and never a secret."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.server.client import ask, data, graphql
from tests.server.conftest import House
from tests.server.waiting import until
from tests.upstreams import Answer, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_answer_can_be_found_by_its_request_id(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    answers = [
        await ask(house.port, "GET", loan.at(), [loan.bearer]),
        await ask(house.port, "GET", "/nowhere"),
        await graphql(house.port, loan.delegate.key, "{ viewer { subject } }"),
    ]
    for answer, path in zip(answers, (loan.at(), "/nowhere", "/graphql"), strict=True):
        (line,) = await lines(house, answer.headers["x-request-id"])
        assert (line["event"], line["path"], line["status"]) == ("request", path, answer.status)


@pytest.mark.parametrize("status", [404, 502])
async def test_a_denied_dispatch_is_named_beside_its_request(
    house: House, service: Upstream, status: int
) -> None:
    loan = await house.lending.loan(service.port if status == 404 else 9)
    answer = await ask(house.port, "DELETE" if status == 404 else "GET", loan.at(), [loan.bearer])
    assert answer.status == status
    denied, request = await lines(house, answer.headers["x-request-id"])
    assert (denied["event"], denied["dispatch_id"]) == ("dispatch.denied", answer.dispatch_id)
    assert (denied["code"], request["event"]) == (answer.code, "request")


async def test_no_secret_is_in_the_log(house: House, service: Upstream) -> None:
    service.play = Answer(b"canary of an answer")
    loan = await house.lending.loan(service.port)
    offered = await house.lending.offer(loan.delegator, loan.delegate, loan.agent)
    secrets = [loan.token, loan.delegate.key, loan.delegator.key, offered.token, "canary of an answer"]
    shown = [loan.bearer, ("X-API-Key", loan.delegate.key), ("Cookie", "canary of a cookie")]
    for target in (loan.at(), loan.at(f"/v1/receipts/{loan.token}"), f"/{loan.token}?{offered.token}"):
        await ask(house.port, "GET", target, shown)
        await ask(house.port, "PUT", target, shown, b"canary of a body")
    await graphql(
        house.port, loan.delegate.key, f'{{ offerPreview(offerToken: "{offered.token}") {{ id }} }}'
    )
    await data(house.port, loan.delegate.key, "{ viewer { subject } }")
    last = await ask(house.port, "GET", "/nowhere")
    await lines(house, last.headers["x-request-id"])

    text = house.served.log.read_text()
    assert [secret for secret in (*secrets, "canary of a cookie", "canary of a body") if secret in text] == []


async def lines(house: House, request_id: str) -> list[dict[str, Any]]:
    """What was logged of a request, once its last line is there."""

    async def found() -> list[dict[str, Any]] | None:
        mine = [line for line in _lines(house.served.log) if line.get("request_id") == request_id]
        return mine if any(line["event"] == "request" for line in mine) else None

    return await until(found)


def _lines(log: Path) -> list[dict[str, Any]]:
    whole = log.read_bytes()
    return [orjson.loads(line) for line in whole[: whole.rfind(b"\n") + 1].splitlines()]
