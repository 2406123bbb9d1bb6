"""What a batch sees: the bindings, tokens, windows and idempotency keys of its items, read under its locks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from app.proxy.attempts import Attempt, Completion, Go
from app.proxy.destinations import Catalog, Destinations
from app.proxy.leads import Lead
from app.rules.admission import Evidence, TokenFacts
from app.rules.entries import Outcome
from app.rules.ids import DAY, AgentId, BindingId, DelegationId, DispatchId, Instant, TenantId, TokenId
from app.rules.lifecycle import Status
from app.rules.terms import Terms
from app.rules.windows import Window, WindowKind, windows_at
from app.store import hot
from app.store.hot import Batch, step

KEY_LIVES = DAY
_NEVER = Instant(0)  # the clock of a batch that found nothing, and so judges nothing


@dataclass(frozen=True, slots=True)
class Standing:
    """A binding and its delegation, as they stand under the lock."""

    binding_id: BindingId
    agent_id: AgentId
    delegation_id: DelegationId
    delegator_id: TenantId
    delegate_id: TenantId
    status: Status
    offer_expires_at: Instant
    terms: Terms
    agent_scopes: frozenset[str]
    revoked: bool
    routes_revision: int


@dataclass(frozen=True, slots=True)
class Token:
    """A scoped token, as it stands under the lock."""

    facts: TokenFacts
    last_used_at: Instant | None


@dataclass(frozen=True, slots=True)
class Prior:
    """What an Idempotency-Key stands for already, and how that ended."""

    fingerprint: str
    dispatch_id: DispatchId
    outcome: Outcome
    code: str | None
    answer: str | None


@dataclass(slots=True)
class Sight:
    """All of it. `used` and `priors` move on with the batch's own admissions."""

    now: Instant = _NEVER
    windows: Sequence[Window] = ()
    standings: dict[BindingId, Standing] = field(default_factory=dict)
    tokens: dict[TokenId, Token] = field(default_factory=dict)
    catalogs: dict[TenantId, Catalog] = field(default_factory=dict)
    used: Counter[tuple[DelegationId, WindowKind]] = field(default_factory=Counter)
    priors: dict[tuple[BindingId, str], Prior] = field(default_factory=dict)

    def evidence(self, standing: Standing, token_id: TokenId | None) -> Evidence:
        """What a decision about this binding and token sees."""
        return Evidence(
            standing.status,
            standing.offer_expires_at,
            standing.terms,
            standing.agent_scopes,
            standing.revoked,
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
    concerned: list[Lead | Go] = [*known, *(each.go for each in completions)]
    yield from _lock({each.delegation_id for each in concerned})
    sight = Sight()
    bindings = sorted({each.binding_id for each in concerned})
    tokens = sorted({each.token_id for each in concerned if each.token_id})
    for row in (yield step(hot.EVIDENCE, {"bindings": bindings, "tokens": tokens})):
        _see(sight, row)
    if known:
        revisions = {each.delegator_id: each.routes_revision for each in sight.standings.values()}
        sight.catalogs = yield from destinations.learn(revisions)
        yield from _read_windows(sight, {each.delegation_id for each in known})
        yield from _read_priors(sight, attempts, leads)
    return sight


def _lock(delegations: Iterable[DelegationId]) -> Batch[None]:
    yield step(hot.LOCK, sorted(delegations))


def _see(sight: Sight, row: Sequence[Any]) -> None:
    if not sight.windows:
        sight.now = Instant(row[0])
        sight.windows = windows_at(sight.now)
    sight.standings[row[1]] = Standing(
        binding_id=row[1],
        revoked=row[2] is not None,
        agent_id=row[3],
        delegation_id=row[4],
        status=Status(row[5]),
        delegator_id=row[6],
        delegate_id=row[7],
        offer_expires_at=row[8],
        terms=_terms(row[9], row[10], row[11]),
        agent_scopes=_scopes(row[12]),
        routes_revision=row[13],
    )
    if row[14] is not None:
        sight.tokens[row[14]] = Token(TokenFacts(row[15], row[16]), row[17])


def _read_windows(sight: Sight, delegations: Iterable[DelegationId]) -> Batch[None]:
    wanted = [
        {"delegation_id": id, "kind": window.kind, "starts_at": window.start}
        for id in delegations
        for window in sight.windows
    ]
    for row in (yield step(hot.WINDOWS, wanted)):
        sight.used[row[0], WindowKind(row[1])] = row[2]


def _read_priors(sight: Sight, attempts: Sequence[Attempt], leads: Sequence[Lead | None]) -> Batch[None]:
    wanted = [
        {"binding_id": lead.binding_id, "key_hash": attempt.key.hash}
        for attempt, lead in zip(attempts, leads, strict=True)
        if attempt.key and lead
    ]
    if not wanted:
        return
    for binding_id, key_hash, fingerprint, dispatch_id, created_at, answer, outcome, code in (
        yield step(hot.KEYS, wanted)
    ):
        if created_at > sight.now - KEY_LIVES:
            prior = Prior(fingerprint, dispatch_id, Outcome(outcome), code, answer)
            sight.priors[binding_id, key_hash] = prior


# Parsing what was read, not remembering what was decided: the texts come from the transaction each time.
@lru_cache(maxsize=4096)
def _terms(version: int, scopes: str, constraints: str) -> Terms:
    return Terms.of(version, orjson.loads(scopes), orjson.loads(constraints))


@lru_cache(maxsize=4096)
def _scopes(scopes: str) -> frozenset[str]:
    return frozenset(orjson.loads(scopes))
