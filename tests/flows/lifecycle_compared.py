"""A delegation as the store has it and as the model has it, in one form, to be compared after every step."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select

from app.delegations.offers import outgoing
from app.delegations.read import status_at
from app.rules.terms import from_stored
from app.rules.windows import WindowKind
from app.store.engine import Tx
from app.store.tables import (
    Binding,
    Delegation,
    Dispatch,
    LedgerEntry,
    LedgerHead,
    ScopedToken,
    TermsVersion,
    UsageWindow,
)
from tests.flows.lifecycle_model import Deal
from tests.flows.lifecycle_parts import Paper
from tests.flows.lifecycle_stage import Cast
from tests.promises import body_of, ended, numbered, paired
from tests.world import World

Picture = dict[str, Any]


def by_the_model(deal: Deal, now: int, hashed: Callable[[str], str]) -> Picture:
    """What the model expects."""
    tokens = [token for place in deal.places for token in place.tokens]
    pending = Counter({("PENDING", None): deal.in_flight()})
    return {
        "state": deal.state,
        "status": deal.status(now),
        "terms": _terms(deal.terms),
        "expires at": deal.terms.until,
        "proposal": [_terms(deal.proposal)] if deal.proposal else [],
        "places": {place.id: (place.actor, place.ended) for place in deal.places},
        "tokens": {hashed(token.text): (token.replaced, token.until) for token in tokens},
        "windows": deal.usage.windows(),
        "told": set(deal.usage.told),
        "dispatches": deal.ended | +pending,
        "delegator's ledger": deal.delegator,
        "delegate's ledger": deal.delegate,
    }


def _terms(paper: Paper) -> Picture:
    return {**asdict(paper), "scopes": sorted(paper.scopes)}


def in_the_store(tx: Tx, cast: Cast, ids: Iterable[str]) -> tuple[dict[str, Picture], int, int]:
    """What there is, how many delegations the plan counts, and when they were looked at."""
    now = tx.now()
    places: dict[str, Picture] = defaultdict(dict)
    tokens: dict[str, Picture] = defaultdict(dict)
    names = {agent.id: name for name, agent in cast.actors.items()}
    for binding in tx.scalars(select(Binding)):
        places[binding.delegation_id][binding.id] = (names[binding.agent_id], binding.revoked_at is not None)
    for token, id in tx.execute(select(ScopedToken, Binding.delegation_id).join(Binding)):
        tokens[id][token.token_hash] = (token.rotated_at, token.expires_at)
    terms = {(row.delegation_id, row.version): _terms_of(row) for row in tx.scalars(select(TermsVersion))}
    windows: dict[str, list[UsageWindow]] = defaultdict(list)
    for window in tx.scalars(select(UsageWindow)):
        windows[window.delegation_id].append(window)
    dispatches = _dispatches(tx)
    events = _events(tx)
    found: dict[str, Picture] = {
        row.id: {
            "state": row.status.value,
            "status": status_at(row, now).value,
            "terms": terms[row.id, row.terms_version],
            "expires at": row.expires_at,
            "proposal": [
                each for (id, version), each in terms.items() if id == row.id and version > row.terms_version
            ],
            "places": places[row.id],
            "tokens": tokens[row.id],
            "windows": {
                (each.kind.value, each.starts_at): each.used for each in windows[row.id] if each.used
            },
            "told": {(each.kind.value, each.starts_at) for each in windows[row.id] if each.exhausted_at},
            "dispatches": dispatches[row.id],
            "delegator's ledger": events[cast.delegator.id, row.id],
            "delegate's ledger": events[cast.delegate.id, row.id],
        }
        for row in tx.scalars(select(Delegation).where(Delegation.id.in_(ids)))
    }
    return found, outgoing(tx, cast.delegator.id, now), now


def _dispatches(tx: Tx) -> dict[str, Counter[tuple[str, str | None]]]:
    found: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
    ends = (Dispatch.delegation_id, Dispatch.outcome, Dispatch.code)
    for id, outcome, code, count in tx.execute(select(*ends, func.count()).group_by(*ends)):
        found[id][outcome.value, code] = count
    return found


def _events(tx: Tx) -> dict[tuple[str, str | None], Counter[str]]:
    found: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    said = (LedgerEntry.tenant_id, LedgerEntry.delegation_id, LedgerEntry.event)
    for tenant_id, id, event, count in tx.execute(select(*said, func.count()).group_by(*said)):
        found[tenant_id, id][event] = count
    return found


def _terms_of(row: TermsVersion) -> Picture:
    made = from_stored(row.constraints)
    return {
        "version": row.version,
        "scopes": row.scopes,
        "until": made.expires_at,
        "caps": {kind.value: cap for kind in WindowKind if (cap := made.cap(kind)) is not None},
        "floor": made.require_trust_score_above,
    }


def differences(seen: Picture, expected: Picture) -> Picture:
    """Of what differs, both: the store's first."""
    return {name: (seen[name], expected[name]) for name in expected if seen[name] != expected[name]}


async def told(world: World) -> None:
    """Asserts what always holds of ledgers and dispatches. Windows were compared after every step."""
    entries = await world.rows(LedgerEntry)
    bodies = [body_of(row) for row in entries]
    numbered(entries, await world.rows(LedgerHead))
    paired(bodies, await world.rows(Delegation))
    ended(await world.rows(Dispatch), bodies)
