"""What always holds (DESIGN section 4), read from the store itself after whatever a test has done to it.

The ledgers are gap-free and hashed; a fact stands in both ledgers or in the one that it concerns; a dispatch has ended
in exactly one pair; the windows have counted exactly what was admitted, and what it costs; of each that is exhausted both
sides are told once.
"""

from collections import Counter, defaultdict
from typing import Any

import orjson

from app.rules.entries import Event, Outcome, canonical, leaf_hash
from app.rules.errors import Code
from app.rules.instants import parse_rfc3339, rfc3339
from app.rules.samples import sample
from app.rules.terms import from_stored
from app.rules.windows import WindowKind, counts, windows_at
from app.store.tables import Delegation, Dispatch, LedgerEntry, LedgerHead, TermsVersion, UsageWindow
from tests.world import World

#: What each side of a pair says for itself.
OWN = {"id", "seq", "tenantId", "actor"}
#: Why an address of the delegator's was not called, which stands in their ledger alone.
WHY = "reason"
CALLS = {Event.ACTION, Event.DENIED}

#: What an event is about, or is not.
ABOUT = ("delegationId", "dispatchId", "actingAgentId", "outcome")

#: Details of refusals that were only counted, and of what tests of the ledger itself append.
OTHERS = {"count", "number"}

#: Facts between tenants that only the delegate is told.
TOKENS = {Event.TOKEN_ISSUED, Event.TOKEN_ROTATED}
#: How an offer can end that its delegate never saw.
UNSEEN = {Event.REVOKED, Event.LAPSED}

#: Why a dispatch FAILED without a byte sent, so that its reservation went back.
UNSENT = {Code.NOT_SENT, Code.UPSTREAM_DENIED, Code.UPSTREAM_UNREACHABLE}

Body = dict[str, Any]


async def kept(world: World) -> None:
    """Asserts all of it."""
    entries = await world.rows(LedgerEntry)
    bodies = [body_of(row) for row in entries]
    sampled(bodies)
    numbered(entries, await world.rows(LedgerHead))
    paired(bodies, await world.rows(Delegation))
    dispatches = await world.rows(Dispatch)
    ended(dispatches, bodies)
    windows = await world.rows(UsageWindow)
    counted(dispatches, windows)
    exhausted(windows, bodies)
    filled(windows, await world.rows(TermsVersion))


def body_of(row: LedgerEntry) -> Body:
    """An entry's body, which its columns only repeat."""
    body: Body = orjson.loads(row.body)
    assert canonical(body) == row.body.encode(), "the stored form is the canonical one"
    assert leaf_hash(row.body.encode()) == row.leaf_hash
    assert (row.tenant_id, row.seq, row.id, row.pair_id) == tuple(
        body[name] for name in ("tenantId", "seq", "id", "pairId")
    )
    assert (row.event, rfc3339(row.occurred_at)) == (body["event"], body["occurredAt"])
    assert (row.delegation_id, row.dispatch_id) == (body["delegationId"], body["dispatchId"])
    return body


def sampled(bodies: list[Body]) -> None:
    """Whoever tries a receiver with the sample of an event has tried it with what the real one has."""
    for body in bodies:
        made = sample(Event(body["event"]), body["id"], parse_rfc3339(body["occurredAt"]))
        assert set(made) == set(body)
        if not body["details"].keys() & OTHERS:
            assert {*made["details"]} - {"test"} == {*common(body)["details"]}, body["event"]
            assert all((made[name] is None) == (body[name] is None) for name in ABOUT), body["event"]


def numbered(entries: list[LedgerEntry], heads: list[LedgerHead]) -> None:
    """Each ledger counts from 1 without a gap to its head, and its ids are in that order too."""
    ledgers: dict[str, list[LedgerEntry]] = defaultdict(list)
    for row in entries:
        ledgers[row.tenant_id].append(row)
    for head in heads:
        ledger = ledgers.pop(head.tenant_id, [])
        assert [row.seq for row in ledger] == list(range(1, head.seq + 1))
    assert not ledgers, "an entry in a ledger that is none"


def paired(bodies: list[Body], delegations: list[Delegation]) -> None:
    """A fact between tenants has one entry on each side, equal but for what is each side's own."""
    by_token = {each.id: each for each in delegations if each.acceptance == "TOKEN"}
    pairs: dict[str, list[Body]] = defaultdict(list)
    for body in bodies:
        pairs[body["pairId"]].append(body)
    for sides in pairs.values():
        event, parties = sides[0]["event"], {sides[0]["actingTenantId"], sides[0]["targetTenantId"]}
        shared = [common(side) for side in sides]
        assert all(each == shared[0] for each in shared)
        told = [side["tenantId"] for side in sides]
        offered = by_token.get(sides[0]["delegationId"])
        unseen = offered and (event == Event.OFFERED or (event in UNSEEN and offered.accepted_at is None))
        alone = event in TOKENS or unseen
        assert len(told) == (1 if alone else len(parties)), f"{event} is told to {told}"
        assert set(told) <= parties
        assert len(set(told)) == len(told)
        assert sum(side["actor"] is not None for side in sides) <= 1, "the user is named in one ledger alone"


def common(side: Body) -> Body:
    """What an entry says as the other side's does."""
    shared = {name: value for name, value in side.items() if name not in OWN}
    if side["event"] in CALLS and side["tenantId"] == side["targetTenantId"]:
        shared["details"] = {name: value for name, value in side["details"].items() if name != WHY}
    return shared


def ended(dispatches: list[Dispatch], bodies: list[Body]) -> None:
    """A dispatch that is not PENDING stands in both ledgers as it ended, once; a PENDING one in none."""
    said: dict[str, list[Body]] = defaultdict(list)
    for body in bodies:
        if body["dispatchId"]:
            said[body["dispatchId"]].append(body)
    for row in dispatches:
        sides = said.pop(row.id, [])
        if row.outcome is Outcome.PENDING:
            assert not sides
            continue
        event = Event.DENIED if row.outcome is Outcome.REFUSED else Event.ACTION
        told = [(side["tenantId"], side["event"], side["outcome"], side["code"]) for side in sides]
        facts = [(id, event, row.outcome, row.code) for id in (row.delegate_id, row.delegator_id)]
        assert sorted(told) == sorted(facts)
    assert not said, "an entry of a dispatch that there is not"


def counted(dispatches: list[Dispatch], windows: list[UsageWindow]) -> None:
    """Each window has counted the admissions in it, or their costs, but for those of which no byte went out."""
    admitted = [
        row
        for row in dispatches
        if row.outcome is not Outcome.REFUSED
        and not (row.outcome is Outcome.FAILED and Code(row.code or "") in UNSENT)
    ]
    wanted: Counter[tuple[str, WindowKind, int]] = Counter()
    for row in admitted:
        for window in windows_at(row.requested_at):
            counted = row.delegation_id, window.kind, window.start
            wanted[counted] += counts(window.kind, row.cost_units)
    assert {
        (each.delegation_id, each.kind, each.starts_at): each.used for each in windows if each.used
    } == +wanted


def exhausted(windows: list[UsageWindow], bodies: list[Body]) -> None:
    """Of each window that is exhausted there is one pair, which says so of the window that it stands in."""
    told: dict[str, tuple[str, str, str]] = {}
    for body in bodies:
        if body["event"] != Event.QUOTA_EXHAUSTED:
            continue
        details, at = body["details"], body["occurredAt"]
        told[body["pairId"]] = body["delegationId"], details["kind"], at
        ends = {window.kind.value: rfc3339(window.end) for window in windows_at(parse_rfc3339(at))}
        assert details["resetsAt"] == ends[details["kind"]]
        # What is left may be less than one action costs; of actions one more is always what does not fit.
        assert details["used"] >= details["limit"] or details["kind"] == WindowKind.COST_MONTH
    known = [
        (each.delegation_id, each.kind.value, rfc3339(each.exhausted_at))
        for each in windows
        if each.exhausted_at is not None
    ]
    assert sorted(told.values()) == sorted(known)


def filled(windows: list[UsageWindow], versions: list[TermsVersion]) -> None:
    """A window that has filled up under terms that were never amended is exhausted."""
    terms: dict[str, list[TermsVersion]] = defaultdict(list)
    for row in versions:
        terms[row.delegation_id].append(row)
    for each in windows:
        cap = from_stored(terms[each.delegation_id][0].constraints).cap(each.kind)
        if len(terms[each.delegation_id]) == 1 and cap is not None and each.used >= cap:
            assert each.exhausted_at is not None, f"nobody was told that {each.kind} has filled up"
