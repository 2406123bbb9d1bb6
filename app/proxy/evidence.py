"""What a batch sees: the bindings, tokens, windows and idempotency keys of its items, read under its locks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from app.proxy.attempts import Attempt, ByCaller, ByToken, Completion
from app.proxy.destinations import Catalog, Destinations
from app.proxy.leads import Lead
from app.rules.admission import Evidence, TokenFacts
from app.rules.entries import Outcome
from app.rules.ids import (
    DAY,
    HOUR,
    AgentId,
    ApiKeyId,
    BindingId,
    DelegationId,
    DispatchId,
    Instant,
    TenantId,
    TokenId,
)
from app.rules.lifecycle import Status
from app.rules.terms import Terms
from app.rules.windows import Window, WindowKind, windows_at
from app.store import hot
from app.store.engine import wall_clock
from app.store.hot import Batch, See, as_json, step
from app.store.hot_writes import NewDispatch

KEY_LIVES = DAY
_NEVER = Instant(0)  # the clock of a batch that found nothing, and so judges nothing


class Standing(NamedTuple):
    """A binding and its delegation, as they stand under the lock."""

    binding_id: BindingId
    agent_id: AgentId
    delegation_id: DelegationId
    delegator_id: TenantId
    delegate_id: TenantId
    status: Status
    offer_expires_at: Instant
    sandbox: bool
    terms: Terms
    agent_scopes: frozenset[str]
    trust_score: int | None
    revoked: bool
    routes_revision: int


class Token(NamedTuple):
    """A scoped token, as it stands under the lock."""

    facts: TokenFacts
    last_used_at: Instant | None


class Prior(NamedTuple):
    """What an Idempotency-Key stands for already, and how that ended."""

    fingerprint: str
    dispatch_id: DispatchId
    outcome: Outcome
    code: str | None
    answer: str | None


@dataclass(slots=True)
class Sight:
    """All of it. `used`, `exhausted` and `priors` move on with the batch's own admissions."""

    now: Instant = _NEVER
    windows: Sequence[Window] = ()
    standings: dict[BindingId, Standing] = field(default_factory=dict)
    tokens: dict[TokenId, Token] = field(default_factory=dict)
    catalogs: dict[TenantId, Catalog] = field(default_factory=dict)
    used: Counter[tuple[DelegationId, WindowKind]] = field(default_factory=Counter)
    exhausted: set[tuple[DelegationId, WindowKind]] = field(default_factory=set)
    priors: dict[tuple[BindingId, str], Prior] = field(default_factory=dict)
    pending: set[DispatchId] = field(default_factory=set)
    heads: dict[TenantId, int] = field(default_factory=dict)
    callers: set[ApiKeyId] = field(default_factory=set)

    def knows(self, by: ByToken | ByCaller) -> bool:
        """Whether a caller with an API key still is one. What a token is worth, its evidence says."""
        return isinstance(by, ByToken) or by.caller.key_id in self.callers

    def evidence(self, standing: Standing, token_id: TokenId | None) -> Evidence:
        """What a decision about this binding and token sees."""
        return Evidence(
            standing.delegation_id,
            standing.delegate_id,
            standing.status,
            standing.offer_expires_at,
            standing.sandbox,
            standing.terms,
            standing.agent_scopes,
            standing.revoked,
            standing.trust_score,
            self.tokens[token_id].facts if token_id else None,
        )


def look(
    attempts: Sequence[Attempt],
    leads: Sequence[Lead | None],
    completions: Sequence[Completion],
    destinations: Destinations,
) -> Batch[Sight]:
    """Locks the delegations, in the order of their ids, and reads what they and theirs are."""
    known = [each for each in leads if each]
    concerned: list[Lead | NewDispatch] = [*known, *(each.go.row for each in completions)]
    if not concerned:
        return Sight()
    ledgers = {id for each in concerned for id in (each.delegator_id, each.delegate_id)}
    since = _since()
    wanted = (
        list({each.binding_id for each in concerned}),
        list({each.token_id for each in concerned if each.token_id}),
        [each.go.attempt.id for each in completions],
        [
            {"delegation_id": id, "kind": kind, "since": start}
            for id in {each.delegation_id for each in known}
            for kind, start in since.items()
        ],
        [
            {"binding_id": lead.binding_id, "key_hash": attempt.key.hash}
            for attempt, lead in zip(attempts, leads, strict=True)
            if attempt.key and lead
        ],
        list(ledgers),
    )
    delegations = list({each.delegation_id for each in concerned})
    rows = yield See(delegations, list(ledgers), [as_json(each) for each in wanted])
    sight = _seen(rows[0], since)
    revisions = {each.delegator_id: each.routes_revision for each in sight.standings.values()}
    sight.catalogs = yield from destinations.learn(revisions)
    callers = _callers([*attempts, *(each.go.attempt for each in completions)])
    if callers:
        found = yield step(hot.API_KEYS, callers)
        sight.callers = {id for id, expires_at in found if expires_at is None or expires_at > sight.now}
    return sight


def _callers(attempts: Iterable[Attempt]) -> list[ApiKeyId]:
    return list({each.by.caller.key_id for each in attempts if isinstance(each.by, ByCaller)})


def _since() -> dict[WindowKind, Instant]:
    # Windows are named before the database's clock is known: by our own, with an hour to spare on either side.
    return {window.kind: window.start for window in windows_at(Instant(wall_clock() - HOUR))}


def _seen(row: Sequence[Any], since: Mapping[WindowKind, Instant]) -> Sight:
    now = Instant(row[0])
    windows = windows_at(now)
    if any(window.start < since[window.kind] for window in windows):
        raise RuntimeError("the database's clock is more than an hour behind this machine's: set one of them")
    standings, tokens, used, priors, pending, heads = (orjson.loads(column or "[]") for column in row[1:])
    starts = {window.kind: window.start for window in windows}
    current = [(id, WindowKind(kind), *rest) for id, kind, start, *rest in used if starts[kind] == start]
    return Sight(
        now,
        windows,
        {each[0]: _standing(each) for each in standings},
        {id: Token(TokenFacts(expires_at, rotated_at), last) for id, expires_at, rotated_at, last in tokens},
        used=Counter({(id, kind): count for id, kind, count, _ in current}),
        exhausted={(id, kind) for id, kind, _, exhausted_at in current if exhausted_at is not None},
        priors={(each[0], each[1]): _prior(each) for each in priors if each[4] > now - KEY_LIVES},
        pending=set(pending),
        heads=dict(heads),
    )


def _standing(row: Sequence[Any]) -> Standing:
    return Standing(
        binding_id=row[0],
        revoked=row[1] is not None,
        agent_id=row[2],
        delegation_id=row[3],
        status=Status(row[4]),
        delegator_id=row[5],
        delegate_id=row[6],
        offer_expires_at=row[7],
        sandbox=row[8] == "SANDBOX",
        terms=_terms(row[9], row[10], row[11]),
        agent_scopes=_scopes(row[12]),
        trust_score=row[13],
        routes_revision=row[14],
    )


def _prior(row: Sequence[Any]) -> Prior:
    return Prior(row[2], row[3], Outcome(row[6]), row[7], row[5])


# Parsing what was read, not remembering what was decided: the texts come from the transaction each time.
@lru_cache(maxsize=4096)
def _terms(version: int, scopes: str, constraints: str) -> Terms:
    return Terms.of(version, orjson.loads(scopes), orjson.loads(constraints))


@lru_cache(maxsize=4096)
def _scopes(scopes: str) -> frozenset[str]:
    return frozenset(orjson.loads(scopes))
