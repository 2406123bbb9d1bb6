"""One batch: every admission and completion that waits, in one transaction.

The steps, in the order of the house's locks: find what to lock; lock the delegations; read the clock and the evidence;
decide in plain Python; write what was decided; lock the ledgers' heads, number, append. One item's refusal never fails
its batch. The number of statements does not depend on the number of items.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from app.egress.outcomes import Answer, NotSent, Rejected
from app.ledger.append import Draft, numbered
from app.proxy.attempts import (
    Admission,
    Attempt,
    ByCaller,
    ByToken,
    CapHit,
    Completed,
    Completion,
    Go,
    Lost,
    No,
    Released,
    Replay,
    Withheld,
)
from app.proxy.destinations import Catalog, Destinations
from app.proxy.records import action_entries, denied_entries
from app.rules.admission import CAP_CODES, Admitted, Evidence, TokenFacts, decide, still_holds
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import (
    DAY,
    MINUTE,
    SECOND,
    AgentId,
    BindingId,
    BootId,
    DelegationId,
    Instant,
    TenantId,
    TokenId,
)
from app.rules.lifecycle import Status
from app.rules.terms import Terms
from app.rules.windows import Window, WindowKind, windows_at
from app.store import hot
from app.store.hot import Batch, Rows, step

KEY_LIVES = DAY
REFUSALS_A_MINUTE = 60  # of one binding and code, each with a row and a pair of entries (promise 6)
_TOUCH = MINUTE  # how exact a token's lastUsedAt is

UsedKey = tuple[DelegationId, WindowKind]


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

    def evidence(self, token: TokenFacts | None) -> Evidence:
        """What the decision sees."""
        return Evidence(
            self.status, self.offer_expires_at, self.terms, self.agent_scopes, self.revoked, token
        )


@dataclass(frozen=True, slots=True)
class Whose:
    """Where a token or a binding leads; that never changes."""

    token_id: TokenId | None
    binding_id: BindingId
    delegation_id: DelegationId


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the items, in their order, and whose ledgers moved."""

    admissions: list[Admission]
    completions: list[Completed]
    appended: set[TenantId]


@dataclass(slots=True)
class _Writes:
    """What the decisions of a batch come to, to be written at its end."""

    dispatches: list[dict[str, Any]] = field(default_factory=list)
    windows: Counter[tuple[DelegationId, Window]] = field(default_factory=Counter)
    claims: list[dict[str, Any]] = field(default_factory=list)
    frees: list[dict[str, Any]] = field(default_factory=list)
    keeps: list[dict[str, Any]] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    refused: list["_Refused"] = field(default_factory=list)
    touched: set[TokenId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Refused:
    at: int
    attempt: Attempt
    whose: Whose
    standing: Standing
    code: Code
    scope: str | None
    cap: CapHit | None


def commit(
    attempts: Sequence[Attempt],
    completions: Sequence[Completion],
    boot_id: BootId,
    destinations: Destinations,
) -> Batch[Outcomes]:
    """Runs one batch. The store drives it: each yield is a statement, each send its rows."""
    whose = yield from _find(attempts)
    now = yield from _lock(whose, completions)
    ledger = _Bench(boot_id, now)
    yield from ledger.read(attempts, whose, completions, destinations)
    admissions: list[Admission] = [
        ledger.admit(at, attempt, whose[at]) for at, attempt in enumerate(attempts)
    ]
    yield from ledger.refuse(admissions)
    completed = yield from ledger.complete(completions)
    yield from ledger.write()
    appended = yield from _append(ledger.writes.drafts)
    return Outcomes(admissions, completed, appended)


def _find(attempts: Sequence[Attempt]) -> Batch[list[Whose | None]]:
    hashes = {each.by.token_hash for each in attempts if isinstance(each.by, ByToken)}
    bindings = {each.by.binding_id for each in attempts if isinstance(each.by, ByCaller)}
    by_token = yield from _listed(hot.FIND, hashes)
    by_binding = yield from _listed(hot.FIND_BINDINGS, bindings)
    found = {row[0]: Whose(row[1], row[2], row[3]) for row in by_token}
    bound = {row[0]: Whose(None, row[0], row[1]) for row in by_binding}
    return [
        found.get(each.by.token_hash) if isinstance(each.by, ByToken) else bound.get(each.by.binding_id)
        for each in attempts
    ]


def _listed(statement: hot.Statement, values: Iterable[str]) -> Batch[Rows]:
    wanted = sorted(set(values))
    if not wanted:
        return []
    return (yield step(statement, wanted))


def _lock(whose: Sequence[Whose | None], completions: Sequence[Completion]) -> Batch[Instant]:
    delegations = {each.delegation_id for each in whose if each}
    delegations.update(each.go.delegation_id for each in completions)
    yield from _listed(hot.LOCK, delegations)
    rows = yield step(hot.NOW, [])  # read after the locks: promise 2
    return Instant(rows[0][0])


class _Bench:
    """The evidence of a batch, read under its locks, and what is decided from it."""

    def __init__(self, boot_id: BootId, now: Instant) -> None:
        self._boot_id = boot_id
        self._now = now
        self._windows = windows_at(now)
        self._standings: dict[BindingId, Standing] = {}
        self._tokens: dict[TokenId, TokenFacts] = {}
        self._catalogs: dict[TenantId, Catalog] = {}
        self._used: Counter[UsedKey] = Counter()
        self._keys: dict[tuple[BindingId, str], Sequence[Any]] = {}
        self.writes = _Writes()

    # -- reading

    def read(
        self,
        attempts: Sequence[Attempt],
        whose: Sequence[Whose | None],
        completions: Sequence[Completion],
        destinations: Destinations,
    ) -> Batch[None]:
        known = [each for each in whose if each]
        bindings = {each.binding_id for each in known} | {each.go.binding_id for each in completions}
        tokens = {each.token_id for each in known if each.token_id}
        tokens |= {each.go.token_id for each in completions if each.go.token_id}
        for row in (yield from _listed(hot.EVIDENCE, bindings)):
            self._standings[row[0]] = _standing(row)
        for row in (yield from _listed(hot.TOKENS, tokens)):
            self._tokens[row[0]] = TokenFacts(row[1], row[2])
            if row[3] is None or row[3] < self._now - _TOUCH:
                self.writes.touched.add(row[0])
        self.writes.touched.intersection_update(each.token_id for each in known if each.token_id)
        if known:
            revisions = {each.delegator_id: each.routes_revision for each in self._standings.values()}
            self._catalogs = yield from destinations.learn(revisions)
            yield from self._read_windows({each.delegation_id for each in known})
            yield from self._read_keys(attempts, whose)

    def _read_windows(self, delegations: set[DelegationId]) -> Batch[None]:
        wanted = [
            {"delegation_id": id, "kind": window.kind, "starts_at": window.start}
            for id in delegations
            for window in self._windows
        ]
        for row in (yield step(hot.WINDOWS, wanted)):
            self._used[row[0], WindowKind(row[1])] = row[2]

    def _read_keys(self, attempts: Sequence[Attempt], whose: Sequence[Whose | None]) -> Batch[None]:
        wanted = [
            {"binding_id": each.binding_id, "key_hash": attempt.key.hash}
            for attempt, each in zip(attempts, whose, strict=True)
            if attempt.key and each
        ]
        if wanted:
            for row in (yield step(hot.KEYS, wanted)):
                if row[4] > self._now - KEY_LIVES:
                    self._keys[row[0], row[1]] = row

    # -- admitting

    def admit(self, at: int, attempt: Attempt, whose: Whose | None) -> Admission:
        standing = self._standings.get(whose.binding_id) if whose else None
        if whose is None or standing is None or not _owns(attempt, standing):
            return No(Code.TOKEN_INVALID)
        prior = self._keys.get((whose.binding_id, attempt.key.hash)) if attempt.key else None
        used = None if prior else {kind: self._used[whose.delegation_id, kind] for kind in WindowKind}
        evidence = standing.evidence(self._tokens[whose.token_id] if whose.token_id else None)
        routes = self._catalogs[standing.delegator_id].routes
        decision = decide(evidence, attempt.ask, routes, used, self._now)
        if isinstance(decision, Admitted) and prior:
            again = self._replay(attempt, standing, prior, idempotent=decision.route.idempotent)
            if isinstance(again, Replay):
                return again
            if isinstance(again, Code):
                return self._refused(at, attempt, whose, standing, again, decision.route.scope)
            used = {kind: self._used[whose.delegation_id, kind] for kind in WindowKind}
            decision = decide(evidence, attempt.ask, routes, used, self._now)
        if not isinstance(decision, Admitted):
            return self._refused(at, attempt, whose, standing, decision.code, decision.scope)
        return self._go(attempt, whose, standing, decision)

    def _replay(
        self, attempt: Attempt, standing: Standing, prior: Sequence[Any], *, idempotent: bool
    ) -> Replay | Code | None:
        _, _, fingerprint, dispatch_id, _, answer, outcome, code, _ = prior
        assert attempt.key is not None
        if fingerprint != attempt.key.fingerprint:
            return Code.IDEMPOTENCY_KEY_REUSED
        match Outcome(outcome):
            case Outcome.PENDING:
                return Code.IDEMPOTENCY_IN_PROGRESS
            case Outcome.COMPLETED:
                return Replay(dispatch_id, standing.delegator_id, Outcome.COMPLETED, code, answer)
            case ended:
                return None if idempotent else Replay(dispatch_id, standing.delegator_id, ended, code, None)

    def _go(self, attempt: Attempt, whose: Whose, standing: Standing, admitted: Admitted) -> Go:
        route = admitted.route
        for window in self._windows:
            self.writes.windows[whose.delegation_id, window] += 1
            self._used[whose.delegation_id, window.kind] += 1
        row = self._row(attempt, whose, standing, route.scope, Outcome.PENDING, None)
        self.writes.dispatches.append(row)
        if attempt.key:
            claim: dict[str, Any] = {
                "binding_id": whose.binding_id,
                "key_hash": attempt.key.hash,
                "dispatch_id": attempt.id,
            }
            claim |= {"fingerprint": attempt.key.fingerprint, "created_at": self._now}
            self.writes.claims.append(claim)
            # The next item of this batch with the same key must find it claimed.
            pending = (
                None,
                None,
                attempt.key.fingerprint,
                attempt.id,
                self._now,
                None,
                Outcome.PENDING,
                None,
                0,
            )
            self._keys[whose.binding_id, attempt.key.hash] = pending
        return Go(
            attempt,
            whose.delegation_id,
            whose.binding_id,
            whose.token_id,
            standing.delegator_id,
            standing.delegate_id,
            standing.agent_id,
            standing.terms.version,
            route,
            self._catalogs[standing.delegator_id].upstreams[route.upstream_name],
            self._now,
        )

    def _row(
        self,
        attempt: Attempt,
        whose: Whose,
        standing: Standing,
        scope: str | None,
        outcome: Outcome,
        code: Code | None,
    ) -> dict[str, Any]:
        return {
            "id": attempt.id,
            "delegation_id": whose.delegation_id,
            "binding_id": whose.binding_id,
            "token_id": whose.token_id,
            "delegator_id": standing.delegator_id,
            "delegate_id": standing.delegate_id,
            "actor": _actor(attempt),
            "scope": scope,
            "method": attempt.method,
            "path": attempt.path,
            "upstream_name": attempt.upstream_name,
            "outcome": outcome,
            "code": code,
            "terms_version": standing.terms.version,
            "requested_at": self._now,
            "finished_at": None if outcome is Outcome.PENDING else self._now,
            "request_bytes": attempt.ask.request_bytes,
            "boot_id": self._boot_id,
        }

    # -- refusing

    def _refused(
        self, at: int, attempt: Attempt, whose: Whose, standing: Standing, code: Code, scope: str | None
    ) -> No:
        cap = self._cap_hit(whose, standing, code)
        self.writes.refused.append(_Refused(at, attempt, whose, standing, code, scope, cap))
        return No(code, None, cap)

    def _cap_hit(self, whose: Whose, standing: Standing, code: Code) -> CapHit | None:
        for window in self._windows:
            cap = standing.terms.constraints.cap(window.kind)
            if CAP_CODES[window.kind] is code and cap is not None:
                length, left = (window.end - window.start) // SECOND, -(-(window.end - self._now) // SECOND)
                return CapHit(window.kind.lower(), cap, length, left)
        return None

    def refuse(self, admissions: list[Admission]) -> Batch[None]:
        """Records the refusals: each with a row and a pair of entries, up to the limit; the rest are counted."""
        refused = self.writes.refused
        if not refused:
            return
        minute = Instant(self._now // MINUTE * MINUTE)
        kinds = {(each.whose.binding_id, each.code): each.whose.delegation_id for each in refused}
        wanted = [{"binding_id": id, "code": code, "minute": minute} for id, code in kinds]
        before = {(row[0], row[1]): row[2] for row in (yield step(hot.REFUSALS, wanted))}
        written: Counter[tuple[str, str]] = Counter()
        counted: Counter[tuple[str, str]] = Counter()
        for each in refused:
            kind = (each.whose.binding_id, each.code)
            if before.get(kind, 0) + written[kind] >= REFUSALS_A_MINUTE:
                counted[kind] += 1
                continue
            written[kind] += 1
            row = self._row(each.attempt, each.whose, each.standing, each.scope, Outcome.REFUSED, each.code)
            self.writes.dispatches.append(row)
            self.writes.drafts.extend(denied_entries(row, each.standing.agent_id, self._now))
            if each.code is not Code.TOKEN_INVALID:  # a dead token learns nothing: 401 is one answer
                admissions[each.at] = No(each.code, each.attempt.id, each.cap)
        yield step(
            hot.COUNT_REFUSALS,
            [
                {
                    "binding_id": id,
                    "code": code,
                    "minute": minute,
                    "delegation_id": delegation_id,
                    "written": written[id, code],
                    "counted": counted[id, code],
                }
                for (id, code), delegation_id in kinds.items()
            ],
        )

    # -- completing

    def complete(self, completions: Sequence[Completion]) -> Batch[list[Completed]]:
        """Judges again what was admitted, and finishes what is still PENDING: nothing else is released."""
        if not completions:
            return []
        judged = [self._judge(each) for each in completions]
        rows = [
            {
                "id": each.go.attempt.id,
                "outcome": outcome,
                "code": code,
                "finished_at": self._now,
                "upstream_status": _status(each),
                "response_bytes": _size(each),
            }
            for each, (outcome, code) in zip(completions, judged, strict=True)
        ]
        finished = {row[0] for row in (yield step(hot.FINISH, rows))}
        results: list[Completed] = []
        for each, (outcome, code) in zip(completions, judged, strict=True):
            if each.go.attempt.id not in finished:
                results.append(Lost())
                continue
            self._record(each, outcome, code)
            results.append(Released() if code is None else Withheld(outcome, code))
        return results

    def _judge(self, completion: Completion) -> tuple[Outcome, Code | None]:
        go = completion.go
        standing = self._standings[go.binding_id]
        evidence = standing.evidence(self._tokens[go.token_id] if go.token_id else None)
        ended = still_holds(evidence, go.route.scope, self._now)
        match completion.sent:
            case Answer():
                return (Outcome.WITHHELD, ended) if ended else (Outcome.COMPLETED, None)
            case NotSent(code) | Rejected(code):
                return Outcome.FAILED, code
            case sent:
                # An abort without an end of the right: the end was undone by nobody, so it is for the sender to say.
                return Outcome.INDETERMINATE, ended or getattr(sent, "code", Code.UPSTREAM_BROKEN)

    def _record(self, completion: Completion, outcome: Outcome, code: Code | None) -> None:
        go = completion.go
        row = self._row_of(go)
        entries = action_entries(
            row, go.agent_id, outcome, code, self._now, _status(completion), _size(completion)
        )
        self.writes.drafts.extend(entries)
        if isinstance(completion.sent, NotSent):
            # No byte went out: the reservation goes back to the windows it came from (promise 3).
            for window in windows_at(go.admitted_at):
                self.writes.windows[go.delegation_id, window] -= 1
        if go.attempt.key:
            kept = {
                "binding_id": go.binding_id,
                "key_hash": go.attempt.key.hash,
                "dispatch_id": go.attempt.id,
            }
            if isinstance(completion.sent, NotSent):
                self.writes.frees.append(kept)
            elif outcome is Outcome.COMPLETED and completion.kept:
                self.writes.keeps.append({**kept, "answer": completion.kept})

    def _row_of(self, go: Go) -> dict[str, Any]:
        return {
            "id": go.attempt.id,
            "delegation_id": go.delegation_id,
            "binding_id": go.binding_id,
            "delegator_id": go.delegator_id,
            "delegate_id": go.delegate_id,
            "actor": _actor(go.attempt),
            "scope": go.route.scope,
            "method": go.attempt.method,
            "path": go.attempt.path,
            "upstream_name": go.attempt.upstream_name,
            "terms_version": go.terms_version,
            "requested_at": go.admitted_at,
            "request_bytes": go.attempt.ask.request_bytes,
        }

    # -- writing

    def write(self) -> Batch[None]:
        writes = self.writes
        if writes.dispatches:
            yield step(hot.DISPATCH, writes.dispatches)
        windows = [
            {"delegation_id": id, "kind": window.kind, "starts_at": window.start, "used": change}
            for (id, window), change in writes.windows.items()
            if change
        ]
        for statement, rows in (
            (hot.COUNT, windows),
            (hot.FREE, writes.frees),
            (hot.CLAIM, writes.claims),
            (hot.KEEP, writes.keeps),
            (hot.TOUCH, [{"id": id, "last_used_at": self._now} for id in writes.touched]),
        ):
            if rows:
                yield step(statement, rows)


def _append(drafts: list[Draft]) -> Batch[set[TenantId]]:
    if not drafts:
        return set()
    tenants = {draft.tenant_id for draft in drafts}
    heads = {TenantId(row[0]): int(row[1]) for row in (yield from _listed(hot.HEADS, tenants))}
    rows, reached = numbered(drafts, heads)
    yield step(hot.APPEND, rows)
    yield step(hot.ADVANCE, [{"tenant_id": id, "seq": seq} for id, seq in reached.items()])
    return tenants


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
        terms=_terms(row[8], row[9], row[10]),
        agent_scopes=_scopes(row[11]),
        routes_revision=row[12],
    )


# Parsing what was read, not remembering what was decided: the texts come from the transaction each time.
@lru_cache(maxsize=4096)
def _terms(version: int, scopes: str, constraints: str) -> Terms:
    return Terms.of(version, orjson.loads(scopes), orjson.loads(constraints))


@lru_cache(maxsize=4096)
def _scopes(scopes: str) -> frozenset[str]:
    return frozenset(orjson.loads(scopes))


def _owns(attempt: Attempt, standing: Standing) -> bool:
    return not isinstance(attempt.by, ByCaller) or attempt.by.caller.tenant_id == standing.delegate_id


def _actor(attempt: Attempt) -> str | None:
    return attempt.by.caller.subject if isinstance(attempt.by, ByCaller) else None


def _status(completion: Completion) -> int | None:
    return completion.sent.status if isinstance(completion.sent, Answer | Rejected) else None


def _size(completion: Completion) -> int | None:
    return len(completion.sent.body) if isinstance(completion.sent, Answer) else None
