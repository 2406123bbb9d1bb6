"""Plans: what a tenant may have comes from a file, and a start without a plan that a tenant has is no start."""

from pathlib import Path

import pytest

from app.delegations.endings import revoke
from app.delegations.offers import offer, outgoing, outgoing_of_all
from app.identity.plans import check_plans, load_plans, read_plans
from app.identity.tenants import all_tenants, change_plan
from app.rules.errors import Code, Refusal
from app.settings import Settings, SettingsError
from app.store.engine import Tx
from app.store.tables import Delegation, Tenant
from tests.world import World


def test_without_a_setting_the_plans_are_those_that_we_ship() -> None:
    assert load_plans(Settings()) == {"standard": 1_000, "trial": 10, "enterprise": 100_000}


def test_a_file_takes_their_place(tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("gold:\n  maxActiveOutgoing: 7\nnone: {maxActiveOutgoing: 0}\n")
    assert load_plans(Settings(plans=file)) == {"gold": 7, "none": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no plans"),
        ("[]", "holds no plans"),
        ("gold", "holds no plans"),
        ("{", 'is no YAML at line 1, column 2, "[^"]+": write each plan as in'),
        ("gold: [\n- a\n- : b", 'is no YAML at line 2, column 1, "[^"]+": write each plan as in'),
        (
            "gold:\n  maxActiveOutgoing: 7\n max: 8",
            'at line 3, column 2, "expected block end, but found block',
        ),
        ("gold: 7\nsilver: \x01", "is no YAML at line 2, which holds a control character: write"),
        ("!!python/object/apply:os.getcwd []", "is no YAML at line 1, column 1, "),
        ("1: {maxActiveOutgoing: 1}", "put it in quotes"),
        ("no: {maxActiveOutgoing: 1}", "put it in quotes"),
        ("gold:", "must have maxActiveOutgoing and nothing else"),
        ("gold: 7", "must have maxActiveOutgoing and nothing else"),
        ("gold: {}", "must have maxActiveOutgoing and nothing else"),
        ("gold: {maxActiveOutgoing: 1, more: 2}", "must have maxActiveOutgoing and nothing else"),
        ("gold: {maxActiveOutgoing: -1}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: 2147483648}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: '7'}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: 7.0}", "a number from 0 to 2147483647"),
        ("gold: {maxActiveOutgoing: true}", "a number from 0 to 2147483647"),
    ],
)
def test_a_file_that_holds_no_plans_stops_the_start_with_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{said}[^\n]*$"):
        read_plans(text)
    file = tmp_path / "plans.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=rf"^CROSSGRANT_PLANS: {file}: [^\n]+$"):
        load_plans(Settings(plans=file))


def test_a_file_that_cannot_be_read_stops_the_start_with_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "plans.bin"
    binary.write_bytes(b"\xff\xfe")
    for file in (tmp_path, tmp_path / "nowhere.yaml", binary):
        with pytest.raises(SettingsError, match=rf"^CROSSGRANT_PLANS: {file}: [^\n]+$"):
            load_plans(Settings(plans=file))


async def test_a_plan_that_a_tenant_has_is_not_left_out(world: World) -> None:
    await world.tenant("acme")
    await world.read(check_plans, {"standard": 1, "gold": 2}, None)
    with pytest.raises(
        SettingsError, match=r"^CROSSGRANT_PLANS is not set, and acme has the plan standard[^\n]+$"
    ):
        await world.read(check_plans, {"gold": 2}, None)


@pytest.mark.parametrize("by", ["slug", "id"])
async def test_the_plan_that_a_tenant_is_given_counts_at_its_next_offer(world: World, by: str) -> None:
    world.plans |= {"none": 0, "two": 2}
    acme, globex = await world.tenant("acme"), await world.tenant()
    agent = await world.agent(acme)
    named = acme.id if by == "id" else "acme"
    first = await world.offer(acme, globex, agent)
    draft = world.draft(agent.id, globex.id, acceptance="ADDRESSED")
    full = Code.PLAN_LIMIT
    for plan, refused in (("none", full), ("two", None), ("two", full), ("standard", None)):
        changed = await world.made(change_plan, named, plan, world.plans)
        assert (changed.id, changed.plan) == (acme.id, plan)
        answer = await world.write(offer, acme.owner, draft, None, world.plans)
        assert (answer.code if isinstance(answer, Refusal) else None) == refused
    assert (await world.accept(first)).delegation.id == first.id, "what was offered stays"
    assert (await world.row(Tenant, globex.id)).plan == "standard"


async def test_a_plan_that_there_is_none_of_and_a_tenant_that_there_is_none_of_change_nothing(
    world: World,
) -> None:
    await world.tenant("acme")
    for named, plan, code, says in (
        ("acme", "gold", Code.INVALID, "plan 'gold': give one of standard, trial, enterprise"),
        ("nobody", "trial", Code.NOT_FOUND, "there is no tenant 'nobody': give a slug or an id"),
    ):
        refusal = await world.write(change_plan, named, plan, world.plans)
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.message) == (code, says)
    assert [tenant.plan for tenant in await world.read(all_tenants)] == ["standard"]


async def test_what_all_tenants_use_of_their_plans_is_what_each_uses(world: World) -> None:
    acme, globex, idle = await world.tenant("b"), await world.tenant("a"), await world.tenant("c")
    agent = await world.agent(acme)
    lapsed, revoked, expired, _open = [await world.offer(acme, globex, agent) for _ in range(4)]
    taken = await world.accept(await world.offer(globex, acme))
    past = world.later(-1)
    await world.age(Delegation, lapsed.id, offer_expires_at=past)
    await world.age(Delegation, expired.id, expires_at=past)
    await world.made(revoke, acme.owner, revoked.id, "over")

    def both(tx: Tx) -> tuple[dict[str, int], dict[str, int]]:
        now = tx.now()
        each = {tenant.slug: outgoing(tx, tenant.id, now) for tenant in all_tenants(tx)}
        used = outgoing_of_all(tx, now)
        return each, {tenant.slug: used.get(tenant.id, 0) for tenant in all_tenants(tx)}

    each, together = await world.read(both)
    assert [*together.items()] == [("a", 1), ("b", 1), ("c", 0)]
    assert each == together
    assert taken.delegation.delegator_id == globex.id != idle.id
