"""Offer, preview, accept, decline, bind, rotate and revoke, as clients do it."""

from typing import Any

import pytest

from tests.api.product import ACCEPT, ERRORS, OFFER, REVOKE, SCOPES, World, later

PREVIEW = """
query ($token: String!) {
  offerPreview(offerToken: $token) {
    id status scopes delegator { slug } agent { name configuration trustScore tags tenant { slug } }
    terms { hash version } constraints { maxActionsPerDay }
    bindingCount bindings { totalCount nodes { id } } audit { nodes { id } }
  }
}
"""
DECLINE = (
    "mutation ($input: DeclineDelegationInput!) { declineDelegation(input: $input) {"
    f" delegation {{ id status endedBy endReason }} {ERRORS} }} }}"
)
BIND = (
    "mutation ($input: CreateBindingInput!) { createBinding(input: $input) {"
    f" binding {{ id usable agent {{ id }} tokens {{ prefix }} }} scopedToken tokenExpiresAt {ERRORS} }} }}"
)
ROTATE = (
    "mutation ($id: ID!, $overlap: Int! = 0) { rotateToken(input: {bindingId: $id, overlapSeconds: $overlap}) {"
    f" binding {{ tokens {{ prefix revokedAt }} }} scopedToken {ERRORS} }} }}"
)
UNBIND = (
    "mutation ($id: ID!, $reason: String) { revokeBinding(input: {bindingId: $id, reason: $reason}) {"
    f" binding {{ id revokedAt usable }} {ERRORS} }} }}"
)
NOBODY = "dlg_00000000-0000-0000-0000-000000000001"


def codes(payload: dict[str, Any]) -> list[str]:
    return [error["code"] for error in payload["userErrors"]]


async def test_an_offer_is_previewed_accepted_once_and_revoked(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    offered = await world.offer(acme, globex, constraints={"maxActionsPerDay": 5})
    token = offered["offerToken"]
    seen = await world.ask(globex.key, PREVIEW, token=token)
    assert (seen["status"], seen["scopes"], seen["delegator"]) == ("PENDING", SCOPES, {"slug": "acme"})
    assert seen["constraints"] == {"maxActionsPerDay": 5}
    assert (seen["bindingCount"], seen["bindings"]["nodes"], seen["audit"]["nodes"]) == (0, [], [])
    assert seen["agent"] == {
        "name": "acme-agent",
        "configuration": None,
        "trustScore": None,
        "tags": None,
        "tenant": {"slug": "acme"},
    }
    accepted = await world.accept(globex, offerToken=token, termsHash=seen["terms"]["hash"])
    assert accepted["delegation"] == {"id": offered["delegation"]["id"], "status": "ACTIVE"}
    assert accepted["scopedToken"].startswith("cgt_live_")
    assert await world.ask(globex.key, PREVIEW, token=token) is None
    assert codes(await world.accept(globex, offerToken=token)) == ["OFFER_NOT_ACCEPTABLE"]
    revoked = await world.ask(acme.key, REVOKE, id=offered["delegation"]["id"], reason="over")
    assert revoked["delegation"] == {
        "id": offered["delegation"]["id"],
        "status": "REVOKED",
        "endedBy": "DELEGATOR",
        "endReason": "over",
    }
    assert (revoked["receipt"]["bindingsEnded"], revoked["receipt"]["tokensEnded"]) == (1, 1)
    again = await world.ask(globex.key, REVOKE, id=offered["delegation"]["id"], reason="again")
    assert again["receipt"] == revoked["receipt"]
    assert again["delegation"]["endReason"] == "over"


async def test_every_offer_that_cannot_be_accepted_gives_the_same_bytes(world: World) -> None:
    acme, globex, other = [await world.tenant(slug) for slug in ("acme", "globex", "other")]
    used = (await world.offer(acme, globex))["offerToken"]
    await world.accept(globex, offerToken=used)
    revoked = await world.offer(acme, globex)
    await world.ask(acme.key, REVOKE, id=revoked["delegation"]["id"], reason="no")
    lapsed = await world.offer(acme, globex, offerExpiresAt=later(5 / 86_400))
    assert lapsed["offerToken"], lapsed
    foreign = (await world.offer(acme, other))["offerToken"]
    by_token = await world.offer(acme, globex)
    addressed_to_another = await world.offer(acme, other, acceptance="ADDRESSED")
    while await world.ask(globex.key, PREVIEW, token=lapsed["offerToken"]):
        pass  # each asks the gateway: the rest is the clock's part
    wrong = [
        {"offerToken": token}
        for token in (
            used,
            revoked["offerToken"],
            lapsed["offerToken"],
            foreign,
            "",
            "x",
            used[:-1] + "0",
            "\x00",
        )
    ]
    wrong += [
        {"delegationId": id}
        for id in (by_token["delegation"]["id"], addressed_to_another["delegation"]["id"], NOBODY, "", "\x00")
    ]
    accepting = {"acceptingAgentId": globex.agent, "acknowledgeConstraints": True}
    answers = {await world.post(globex.key, ACCEPT, input={**accepting, **offer}) for offer in wrong}
    assert len(answers) == 1
    assert b"OFFER_NOT_ACCEPTABLE" in answers.pop()
    declined = {await world.post(globex.key, DECLINE, input=offer) for offer in wrong}
    assert len(declined) == 1
    previewed = {
        await world.post(globex.key, PREVIEW, token=offer["offerToken"])
        for offer in wrong
        if "offerToken" in offer
    }
    assert previewed == {b'{"data":{"offerPreview":null}}'}


async def test_an_addressed_offer_is_accepted_or_declined_by_its_id(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    offered = await world.offer(acme, globex, acceptance="ADDRESSED")
    assert offered["offerToken"] is None
    id = offered["delegation"]["id"]
    assert (await world.ask(globex.key, "query ($id: ID!) { delegation(id: $id) { id } }", id=id))["id"] == id
    declined = await world.ask(globex.key, DECLINE, input={"delegationId": id, "reason": "no need"})
    assert declined["delegation"] == {
        "id": id,
        "status": "DECLINED",
        "endedBy": "DELEGATE",
        "endReason": "no need",
    }
    second = await world.offer(acme, globex, acceptance="ADDRESSED")
    accepted = await world.accept(globex, delegationId=second["delegation"]["id"])
    assert accepted["delegation"]["status"] == "ACTIVE"


@pytest.mark.parametrize("given", [{}, {"offerToken": "x", "delegationId": NOBODY}])
async def test_exactly_one_name_of_an_offer_is_taken(world: World, given: dict[str, str]) -> None:
    globex = await world.tenant("globex")
    refused = await world.accept(globex, **given)
    assert refused["userErrors"][0]["code"] == "INVALID"
    assert refused["userErrors"][0]["path"] == ["offerToken"]
    assert codes(await world.ask(globex.key, DECLINE, input=given)) == ["INVALID"]


async def test_a_repeated_acceptance_gets_the_object_and_never_the_token(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    token = (await world.offer(acme, globex))["offerToken"]
    first = await world.accept(globex, offerToken=token, idempotencyKey="k1")
    assert first["userErrors"] == []
    repeat = await world.accept(globex, offerToken=token, idempotencyKey="k1")
    assert (repeat["delegation"], repeat["binding"]) == (first["delegation"], first["binding"])
    assert (repeat["scopedToken"], repeat["tokenExpiresAt"]) == (None, None)
    assert codes(repeat) == ["TOKEN_ALREADY_ISSUED"]
    assert "rotateToken" in repeat["userErrors"][0]["message"]
    assert codes(await world.accept(globex, offerToken=token, idempotencyKey="k2")) == [
        "OFFER_NOT_ACCEPTABLE"
    ]
    other = await world.tenant("other")
    assert codes(await world.accept(other, offerToken=token, idempotencyKey="k1")) == ["OFFER_NOT_ACCEPTABLE"]
    for key in ("", "x" * 256):
        refused = await world.accept(globex, offerToken=token, idempotencyKey=key)
        assert refused["userErrors"][0]["path"] == ["idempotencyKey"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxCostUnitsPerMonth", 5),
        ("requireTrustScoreAbove", 70),
        ("condition", "true"),
        ("denyPatterns", ["x"]),
        ("denyPatterns", []),
    ],
)
async def test_every_constraint_is_agreed_on_and_shown_as_it_was_given(
    world: World, name: str, value: object
) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex, constraints={name: value})
    query = f"query ($id: ID!) {{ delegation(id: $id) {{ constraints {{ {name} }} }} }}"
    for key in (acme.key, globex.key):
        shown = await world.ask(key, query, id=accepted["delegation"]["id"])
        assert shown == {"constraints": {name: value}}


async def test_what_is_lent_of_a_sandbox_has_tokens_that_say_so(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex, environment="SANDBOX")
    delegation_id, binding_id = accepted["delegation"]["id"], accepted["binding"]["id"]
    bound = await world.ask(globex.key, BIND, input={"delegationId": delegation_id, "agentId": globex.agent})
    rotated = await world.ask(globex.key, ROTATE, id=binding_id)
    for made in (accepted, bound, rotated):
        assert made["scopedToken"].startswith("cgt_test_")
    assert (await world.delegated(acme, globex))["scopedToken"].startswith("cgt_live_")


async def test_a_wrong_offer_names_its_field(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    cases: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"constraints": {"expiresAt": later(-1)}}, "EXPIRY_INVALID", ["constraints", "expiresAt"]),
        ({"constraints": {"maxActionsPerHour": 0}}, "CAP_INVALID", ["constraints", "maxActionsPerHour"]),
        (
            {"constraints": {"maxCostUnitsPerMonth": 0}},
            "CAP_INVALID",
            ["constraints", "maxCostUnitsPerMonth"],
        ),
        (
            {"constraints": {"requireTrustScoreAbove": 100}},
            "INVALID",
            ["constraints", "requireTrustScoreAbove"],
        ),
        (
            {"constraints": {"ipAllowlist": ["::ffff:192.0.2.0/120"]}},
            "CIDR_INVALID",
            ["constraints", "ipAllowlist", "0"],
        ),
        ({"scopes": ["other:thing"]}, "SCOPE_NOT_HELD", ["scopes"]),
        ({"toTenantId": acme.id}, "SELF_DELEGATION", ["toTenantId"]),
        ({"toTenantId": "\x00"}, "NOT_FOUND", ["toTenantId"]),
        ({"fromAgentId": globex.agent}, "NOT_FOUND", ["fromAgentId"]),
        ({"fromAgentId": "nonsense"}, "NOT_FOUND", ["fromAgentId"]),
        ({"metadata": {"x": "y" * 20_000}}, "INVALID", ["metadata"]),
    ]
    for more, code, path in cases:
        [error] = (await world.offer(acme, globex, **more))["userErrors"]
        assert (error["code"], error["path"]) == (code, path)


async def test_a_wrong_scalar_is_told_by_its_place(world: World) -> None:
    acme = await world.tenant("acme")
    offer = {"fromAgentId": acme.agent, "toTenantId": acme.id, "scopes": ["receipts:read"]}
    for wrong, named in (
        ({**offer, "constraints": {"expiresAt": later(1), "ipAllowlist": ["10.0.0.1/8"]}}, "ipAllowlist"),
        ({**offer, "constraints": {"expiresAt": "tomorrow"}}, "expiresAt"),
        ({**offer, "scopes": ["Receipts"], "constraints": {"expiresAt": later(1)}}, "scopes"),
    ):
        [error] = (await world.answer(acme.key, OFFER, input=wrong))["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert named in error["message"]


async def test_a_binding_is_made_rotated_and_revoked(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex)
    delegation_id = accepted["delegation"]["id"]
    made = await world.ask(globex.key, BIND, input={"delegationId": delegation_id, "agentId": globex.agent})
    binding = made["binding"]
    assert binding["usable"]
    assert made["scopedToken"].startswith(binding["tokens"][0]["prefix"])
    rotated = await world.ask(globex.key, ROTATE, id=binding["id"])
    old, new = rotated["binding"]["tokens"]
    assert old["revokedAt"] is not None
    assert (new["revokedAt"], rotated["scopedToken"].startswith(new["prefix"])) == (None, True)
    overlapping = await world.ask(globex.key, ROTATE, id=binding["id"], overlap=3600)
    assert [token["revokedAt"] is None for token in overlapping["binding"]["tokens"]] == [False, True, True]
    ended = await world.ask(acme.key, UNBIND, id=binding["id"])
    assert (ended["binding"]["usable"], ended["userErrors"]) == (False, [])
    assert await world.ask(globex.key, UNBIND, id=binding["id"], reason="again") == ended
    [error] = (await world.ask(globex.key, ROTATE, id=binding["id"]))["userErrors"]
    assert (error["code"], error["path"]) == ("WRONG_STATE", ["bindingId"])
    for id in ("nonsense", "\x00", NOBODY):
        assert codes(await world.ask(globex.key, ROTATE, id=id)) == ["NOT_FOUND"]


async def test_the_second_of_two_mutations_sees_the_first(world: World) -> None:
    acme, globex = await world.tenant("acme"), await world.tenant("globex")
    accepted = await world.delegated(acme, globex)
    shown = "binding { usable delegation { status bindingCount bindings { nodes { usable } } } }"
    query = (
        "mutation ($bind: CreateBindingInput!, $id: ID!) {"
        f" first: createBinding(input: $bind) {{ {shown} }}"
        f" second: revokeBinding(input: {{bindingId: $id}}) {{ {shown} }} }}"
    )
    bind = {"delegationId": accepted["delegation"]["id"], "agentId": globex.agent}
    both = await world.ask(globex.key, query, bind=bind, id=accepted["binding"]["id"])
    nodes = [both[name]["binding"]["delegation"]["bindings"]["nodes"] for name in ("first", "second")]
    assert nodes == [[{"usable": True}, {"usable": True}], [{"usable": False}, {"usable": True}]]
