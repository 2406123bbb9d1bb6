"""Explaining runs what decides, and changes nothing: the two are held equal here, over many situations."""

import random
from dataclasses import replace
from typing import Any

import pytest

from app.delegations.endings import revoke
from app.inventory.agents import AgentChanges, update_agent
from app.proxy.actions import ActionAsk, attempt_action
from app.proxy.answers import REFUSALS
from app.proxy.attempts import Content, Go, No
from app.proxy.explaining import Check, Decision, Question, case, explain
from app.proxy.judging import Judges
from app.rules.errors import BadInput, Code, Refusal
from app.rules.ids import DAY, HOUR, ActionId, AgentId, Instant
from app.rules.lifecycle import Party
from app.store.engine import Tx, wall_clock
from app.store.tables import Row, Suspension
from tests.conftest import HEAVY_ON_POSTGRES
from tests.flows.nodes import node
from tests.world import SCOPES, Lent, Member, World

READ, WRITE = SCOPES
JSON = "application/json"


def question(lent: Lent, scope: str = READ, **given: Any) -> Question:
    """What would be asked for, but for what is given."""
    asked: dict[str, Any] = {
        "delegation_id": lent.id,
        "agent_id": lent.actor.id,
        "scope": scope,
        "action_id": None,
        "path_parameters": {"id": "7"} if scope == READ else {},
        "query": "",
        "content_type": JSON,
        "address": None,
        "at": None,
        "body": b"",
    }
    return Question(**{**asked, **given})


async def explained(world: World, asked: Question, by: Member) -> Decision:
    """The explanation that a tenant gets."""
    return explain(await world.read(case, by.owner, asked))


async def enforced(world: World, judges: Judges, lent: Lent, asked: Question) -> Code | None:
    """What `dispatchAction` says to the same: None, or why not."""
    assert asked.path_parameters is not None
    given = (asked.action_id, asked.path_parameters, asked.address, asked.body)
    ask = ActionAsk(lent.binding.id, asked.scope, *given)
    attempt = await world.read(attempt_action, lent.delegate.owner, ask)
    if isinstance(attempt, Refusal):
        return attempt.code
    headers = [("content-type", asked.content_type)] if asked.content_type else []
    admission = await judges.admit(attempt, Content(asked.query, headers, asked.body))
    assert isinstance(admission, Go | No), admission
    return admission.code if isinstance(admission, No) else None


SOME = random.Random(20261128)


def drawn() -> dict[str, Any]:
    """Limits of a delegation, each there or not."""
    limits: dict[str, Any] = {
        "max_actions_per_hour": SOME.choice([1, 2, 5]),
        "max_actions_per_day": SOME.choice([1, 3]),
        "max_cost_units_per_month": SOME.choice([1, 2, 6]),
        "require_trust_score_above": SOME.choice([0, 40, 70]),
        "max_request_bytes": SOME.choice([1, 12, 100]),
        "deny_patterns": SOME.choice([("secret",), ("^x$", "[0-9]{9}")]),
        "condition": SOME.choice(
            [
                *("request.body.total <= 5", 'request.method == "GET"', "request.bytes < 20"),
                'request.path.matches("^/v1/receipts(/7)?$")',
            ]
        ),
    }
    return {name: value for name, value in limits.items() if SOME.random() < 0.3}


BODIES = (
    b"",
    b'{"total":1}',
    b'{"total":9}',
    b'{"note":"secret"}',
    b'{"a":1,"a":2}',
    b"not json",
    b'{"note":"x"}',
)


#: Right for one action and wrong for the other, or for both.
PARAMETERS: tuple[dict[str, str], ...] = (
    {},
    {"id": "7"},
    {"id": "a b"},
    {"id": ".."},
    {"id": ""},
    {"id": "7", "x": "1"},
    {"id": "é" * 700},
)


async def moved(world: World, lent: Lent) -> None:
    """Something happens to the delegation, or nothing."""
    match SOME.randrange(10):
        case 0:
            await world.suspend(lent)
        case 1:
            await world.made(revoke, lent.delegate.owner, lent.id, "over")
        case 2 | 3:
            await world.trust(lent.actor, SOME.choice([0, 41, 71, 100]))
        case 4:
            await world.amend(lent, scopes=[SOME.choice(SCOPES)], max_actions_per_hour=9)
        case 5:
            await world.amend(lent, ip_allowlist=("192.0.2.0/24",))
        case 6:
            taken = AgentChanges(scopes=[SOME.choice(SCOPES)])
            await world.made(update_agent, lent.delegator.owner, lent.agent.id, taken)
        case _:
            pass


@HEAVY_ON_POSTGRES
async def test_an_explanation_and_a_dispatch_say_the_same(world: World, full: bool) -> None:
    delegator = await world.tenant()
    upstream = await world.upstream(delegator)
    await world.action(delegator, upstream, READ, cost_units=2)
    schema = {"properties": {"total": {"type": "number"}}}
    await world.action(delegator, upstream, WRITE, "POST", "/v1/receipts", request_schema=schema)
    codes: set[Code | None] = set()
    async with node(world) as at:
        judges = Judges(at.committer)
        for _ in range(200 if full else 30):
            environment = "SANDBOX" if SOME.random() < 0.1 else "LIVE"
            lent = await world.delegation(delegator, environment=environment, **drawn())
            await moved(world, lent)
            for _ in range(5):
                scope = SOME.choice([*SCOPES, "nobody:knows"])
                asked = question(lent, scope, body=SOME.choice(BODIES))
                if SOME.random() < 0.2:
                    asked = replace(asked, path_parameters=SOME.choice(PARAMETERS))
                told = await explained(world, asked, lent.delegator)
                code = await enforced(world, judges, lent, asked)
                assert told.code is code, (asked, told)
                assert told.allowed is (code is None)
                coarse = await explained(world, asked, lent.delegate)
                codes.add(code)
                if code is None:
                    continue  # which has used something up
                assert coarse.code is code
                assert [check.code for check in coarse.checks] == [code]
        judges.close()
    assert len(codes) >= 9, codes
    assert Code.INVALID in codes, "parameters of a path were wrong"


async def everything(world: World) -> list[tuple[Any, ...]]:
    """Every row of every table."""
    return await world.read(_rows)


def _rows(tx: Tx) -> list[tuple[Any, ...]]:
    tables = Row.metadata.sorted_tables
    return [tuple(row) for table in tables for row in tx.execute(table.select())]


async def test_it_consumes_nothing(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=1, condition="request.bytes < 9")
    before = await everything(world)
    for _ in range(3):
        assert (await explained(world, question(lent), lent.delegator)).allowed
    assert await everything(world) == before


async def test_the_delegator_is_shown_every_check_in_its_order_also_behind_the_one_that_failed(
    world: World,
) -> None:
    lent = await world.delegation(max_actions_per_hour=3, require_trust_score_above=9, deny_patterns=("x",))
    told = await explained(world, question(lent, WRITE, body=b'"x"'), lent.delegator)
    assert [(check.name, check.code) for check in told.checks] == [
        ("pathParameters", None),
        ("status", None),
        ("binding", None),
        ("requireTrustScoreAbove", Code.TRUST_TOO_LOW),
        ("ipAllowlist", None),
        ("action", None),
        ("environment", None),
        ("maxRequestBytes", None),
        ("denyPatterns", Code.PATTERN_DENIED),
        ("maxActionsPerHour", None),
    ]
    assert told.code is Code.TRUST_TOO_LOW


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({}, "pathParameters must give exactly id"),
        ({"id": "7", "x": "1"}, "pathParameters must give exactly id"),
        ({"id": "../7"}, "pathParameters.id must be one plain path segment, without slashes or dot segments"),
    ],
)
async def test_wrong_parameters_of_a_path_are_told_before_all_else_where_they_are_given(
    world: World, given: dict[str, str], detail: str
) -> None:
    lent = await world.delegation()
    await world.suspend(lent)
    asked = question(lent, path_parameters=given)
    whole = await explained(world, asked, lent.delegator)
    assert (whole.allowed, whole.code) == (False, Code.INVALID)
    assert whole.checks[0] == Check("pathParameters", passed=False, code=Code.INVALID, detail=detail)
    assert [check.code for check in whole.checks if check.name == "status"] == [Code.DELEGATION_SUSPENDED]
    assert (await explained(world, asked, lent.delegate)).checks == [whole.checks[0]]
    await world.resume(lent)
    left_out = await explained(world, question(lent, path_parameters=None), lent.delegator)
    assert left_out.allowed
    assert "pathParameters" not in {check.name for check in left_out.checks}


@pytest.mark.parametrize("how", ["revoked", "amended away", "taken from the agent"])
@pytest.mark.parametrize("actions", [1, 2])
async def test_what_is_lent_no_more_is_described_to_nobody(world: World, how: str, actions: int) -> None:
    delegator = await world.tenant()
    upstream = await world.upstream(delegator)
    lent = await world.delegation(delegator)
    then = Instant(wall_clock())
    await lend_no_more(world, lent, how)
    for number in range(actions):
        await world.action(delegator, upstream, READ, "GET", f"/v2/{number}/{{codename}}")
    wrong = question(lent, path_parameters={"id": "7"})
    async with node(world) as at:
        judges = Judges(at.committer)
        code = await enforced(world, judges, lent, wrong)
        judges.close()
    assert code is (Code.DELEGATION_REVOKED if how == "revoked" else Code.ACTION_NOT_FOUND)
    for asked in (wrong, replace(wrong, at=then)):
        told = await explained(world, asked, lent.delegate)
        assert told.code is code or asked.at
        assert "codename" not in repr(told)


async def lend_no_more(world: World, lent: Lent, how: str) -> None:
    """Ends what the first scope allows."""
    match how:
        case "revoked":
            await world.made(revoke, lent.delegator.owner, lent.id, "over")
        case "amended away":
            await world.amend(lent, scopes=[WRITE])
        case _:
            less = AgentChanges(scopes=[WRITE])
            await world.made(update_agent, lent.delegator.owner, lent.delegation.agent_id, less)


async def test_without_an_action_the_rest_is_not_judged_and_says_so(world: World) -> None:
    lent = await world.delegation(max_actions_per_hour=3)
    told = await explained(world, question(lent, "nobody:knows"), lent.delegator)
    assert told.code is Code.ACTION_NOT_FOUND
    behind = told.checks[[check.name for check in told.checks].index("action") + 1 :]
    assert behind
    assert all((check.passed, check.code) == (False, None) for check in behind)


async def test_an_agent_that_is_not_bound_is_told_apart_from_no_other(world: World) -> None:
    lent = await world.delegation()
    stranger = await world.agent(await world.tenant())
    nobody = AgentId("agt_00000000-0000-0000-0000-000000000000")
    told = [
        await explained(world, question(lent, agent_id=id), lent.delegator) for id in (stranger.id, nobody)
    ]
    assert told[0] == told[1]
    assert told[0].code is Code.BINDING_REVOKED
    assert (await explained(world, question(lent, agent_id=None), lent.delegator)).allowed


async def test_one_of_several_actions_has_to_be_named(world: World) -> None:
    delegator = await world.tenant()
    upstream = await world.service(delegator)
    second = await world.action(delegator, upstream, READ, "GET", "/v1/totals")
    lent = await world.delegation(delegator)
    ask = ActionAsk(lent.binding.id, READ, None, {}, None, b"")
    refusal = await world.read(attempt_action, lent.delegate.owner, ask)
    assert isinstance(refusal, Refusal)
    for by in (delegator, lent.delegate):
        [check] = [
            each for each in (await explained(world, question(lent), by)).checks if each.name == "action"
        ]
        assert (check.code, check.detail) == (Code.ACTION_AMBIGUOUS, refusal.message)
    named = question(lent, action_id=second.id, path_parameters={})
    assert (await explained(world, named, delegator)).allowed
    unknown = ActionId("act_00000000-0000-0000-0000-000000000000")
    told = await explained(world, question(lent, action_id=unknown), lent.delegate)
    assert [(check.code, check.detail) for check in told.checks] == [
        (Code.ACTION_NOT_FOUND, REFUSALS[Code.ACTION_NOT_FOUND][1])
    ]


async def test_of_terms_that_are_past_nobody_is_told_the_actions(world: World) -> None:
    delegator = await world.tenant()
    upstream = await world.service(delegator)
    second = await world.action(delegator, upstream, READ, "GET", "/v1/totals")
    lent = await world.delegation(delegator)
    accepted = lent.delegation.accepted_at
    await world.amend(lent, scopes=[WRITE])
    [check] = (await explained(world, question(lent, at=accepted), lent.delegate)).checks
    assert check.code is Code.ACTION_AMBIGUOUS
    assert check.detail is not None
    assert second.id not in check.detail
    [check] = (await explained(world, question(lent), lent.delegate)).checks
    assert check.code is Code.ACTION_NOT_FOUND


async def test_what_was_and_what_will_be(world: World) -> None:
    lent = await world.delegation(lives=DAY / 1_000_000)
    accepted = lent.delegation.accepted_at
    assert accepted is not None
    await world.suspend(lent)
    (rest,) = await world.rows(Suspension, Suspension.delegation_id == lent.id)
    await world.resume(lent)
    await world.amend(lent, scopes=[WRITE])
    await world.made(revoke, lent.delegator.owner, lent.id, "over")

    async def at(moment: int) -> tuple[Code | None, int]:
        told = await explained(world, question(lent, at=Instant(moment)), lent.delegator)
        return next((c.code for c in told.checks if c.name == "status"), None), told.terms_version

    assert await at(accepted - 1) == (Code.DELEGATION_PENDING, 1)
    assert await at(accepted) == (None, 1)
    assert await at(rest.suspended_at) == (Code.DELEGATION_SUSPENDED, 1)
    assert await at(wall_clock()) == (Code.DELEGATION_REVOKED, 2)
    assert await at(wall_clock() + 40 * DAY) == (Code.DELEGATION_REVOKED, 2)


async def test_a_delegation_that_has_not_ended_expires_in_the_future(world: World) -> None:
    lent = await world.delegation(lives=HOUR / 1_000_000)
    told = await explained(world, question(lent, at=Instant(wall_clock() + 2 * HOUR)), lent.delegator)
    assert told.code is Code.DELEGATION_EXPIRED


async def test_whoever_is_no_party_learns_nothing(world: World) -> None:
    lent, stranger = await world.delegation(), await world.tenant()
    unknown = question(lent, delegation_id="dlg_00000000-0000-0000-0000-000000000000")
    said = []
    for asked in (question(lent), unknown):
        with pytest.raises(BadInput) as no:
            await world.read(case, stranger.owner, asked)
        said.append(no.value.message)
    assert said[0] == said[1]


async def test_each_side_is_known(world: World) -> None:
    lent = await world.delegation()
    sides = [
        (await world.read(case, by.owner, question(lent))).side for by in (lent.delegator, lent.delegate)
    ]
    assert sides == [Party.DELEGATOR, Party.DELEGATE]
