"""Paths that two servers could read in two ways reach no service (DESIGN section 4, promise 9)."""

import pytest

from tests.egress.peers import words
from tests.server.client import ask
from tests.server.conftest import House
from tests.server.lending import SERVICE, Act
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

#: As wide as actions get: any one, two or three segments, so that nothing but the reading of the path refuses.
WIDE = [Act("receipts:read", "GET", "/" + "/".join(f"{{{name}}}" for name in "abc"[:n])) for n in (1, 2, 3)]

AMBIGUOUS = words(r"""
/a/../b /a/./b /.. /. /a/.. /a/. /../a
/a/%2e%2e/b /a/%2E%2e/b /a/.%2e/b /a/%2e/b /%2e%2e /a/%2e%2e%2fb
/a/..;/b /a/.;x/b /a/..%3b/b /a/%2e%2e;x /a;x=1/b /a/b;x /;/a
//a /a//b /a/b// /a/ / //
/a%2fb /a%2Fb /%2f /a/%2f/b /%2fa
/a%5cb /a\b /a/..\b /a/%5c..%5cb
/a%00 /a%00b /a%0ab /a%0d%0aX-Evil:1 /a%7f /a%c2%80 /a%1b
/a%252e%252e /a/%252e%252e/b /a%252fb /%25%32%65
/a% /a%2 /a%zz /a%u002e
/a%c0%ae%c0%ae/b /a%ff /a%c3 /%e0%80%af /a%ed%a0%80
/a/%e2%80%a8 /a%e2%80%ae /a%c2%a0b
/a"b /a<b> /a^b /a`b /a{b} /a|b /a[b]
""")


#: Other ways to write the path of the proxy itself.
ROUNDABOUT = words("""
/%70roxy/receipts-api/a /proxy%2freceipts-api/a /PROXY/receipts-api/a //proxy/receipts-api/a
/./proxy/receipts-api/a /x/../proxy/receipts-api/a /graphql/../proxy/receipts-api/a /proxy/./receipts-api/a
/proxy/../proxy/receipts-api/a /proxy//receipts-api/a /proxy/receipts%2dapi/a /proxy/receipts-api%2fa
/proxy/receipts-api/a#/b http://gateway.test/proxy/receipts-api/../a * receipts-api/a
""")

NO_QUERIES = ["a b", "a\x7fb", "a%zz", "a%2", "a<b", 'a"b', "a\\b", "a^b", "a`b", "a{b}", "é", "a#b"]


async def test_an_ambiguous_path_reaches_no_service(house: House, service: Upstream) -> None:
    answers = await asked(house, service, [f"/proxy/{SERVICE}{path}" for path in AMBIGUOUS])
    assert answers <= {(404, "ACTION_NOT_FOUND"), (400, "BAD_USER_INPUT")}


async def test_the_way_to_the_proxy_has_one_spelling(house: House, service: Upstream) -> None:
    answers = await asked(house, service, ROUNDABOUT)
    assert answers <= {(404, "ACTION_NOT_FOUND"), (404, "NOT_FOUND"), (400, "BAD_USER_INPUT")}


async def test_a_query_that_is_none_reaches_no_service(house: House, service: Upstream) -> None:
    answers = await asked(house, service, [f"/proxy/{SERVICE}/a?{query}" for query in NO_QUERIES])
    assert answers == {(400, "BAD_USER_INPUT")}


async def asked(house: House, service: Upstream, targets: list[str]) -> set[tuple[int, str]]:
    """The answers to these, none of which the service may see."""
    loan = await house.lending.loan(service.port, acts=WIDE, scopes=["receipts:read"])
    answers = set()
    for target in targets:
        answer = await ask(house.port, "GET", target, [loan.bearer])
        assert service.seen == [], f"{target} went out as {service.seen[0].path}"
        answers.add((answer.status, answer.code))
    assert (await ask(house.port, "GET", loan.at("/a/b"), [loan.bearer])).status == 200, (
        "the route itself works"
    )
    return answers


async def test_a_path_of_any_length_is_answered(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port, acts=WIDE, scopes=["receipts:read"])
    calls = [
        ask(house.port, "GET", loan.at("/" + "a" * length), [loan.bearer]) for length in (4000, 5000, 40_000)
    ]
    assert [(await call).status for call in calls] == [200, 404, 431]
    assert len(service.seen) == 1
