"""What the decisions of a batch come to, written at its end: one statement for each kind of row."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.ledger.append import Fact, ledgers, numbered
from app.proxy.attempts import Attempt, ByCaller, Go
from app.proxy.evidence import Standing
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import BootId, DelegationId, Instant, TenantId, TokenId
from app.rules.windows import Window
from app.store import hot
from app.store.hot import Batch, Write, step

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Writes:
    """Collected while deciding."""

    boot_id: BootId
    dispatches: Rows = field(default_factory=list)
    windows: Counter[tuple[DelegationId, Window]] = field(default_factory=Counter)
    finished: Rows = field(default_factory=list)
    claims: Rows = field(default_factory=list)
    frees: Rows = field(default_factory=list)
    keeps: Rows = field(default_factory=list)
    touches: dict[TokenId, Instant] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def dispatch(
        self,
        attempt: Attempt,
        standing: Standing,
        token_id: TokenId | None,
        scope: str | None,
        code: Code | None,
        now: Instant,
    ) -> dict[str, Any]:
        """Adds the row of a dispatch: REFUSED where there is a code, else PENDING."""
        row = {
            "id": attempt.id,
            "delegation_id": standing.delegation_id,
            "binding_id": standing.binding_id,
            "token_id": token_id,
            "delegator_id": standing.delegator_id,
            "delegate_id": standing.delegate_id,
            "actor": actor(attempt),
            "scope": scope,
            "method": attempt.method,
            "path": attempt.path,
            "upstream_name": attempt.upstream_name,
            "outcome": Outcome.REFUSED if code else Outcome.PENDING,
            "code": code,
            "terms_version": standing.terms.version,
            "requested_at": now,
            "finished_at": now if code else None,
            "request_bytes": attempt.ask.request_bytes,
            "boot_id": self.boot_id,
        }
        self.dispatches.append(row)
        return row

    def write(self) -> Batch[set[TenantId]]:
        """Writes all of it; the ledgers' heads are the last locks to be taken. Returns whose ledgers moved."""
        for statement, rows in (
            (hot.FREE, self.frees),
            (hot.CLAIM, self.claims),
            (hot.KEEP, self.keeps),
            (hot.TOUCH, [{"id": id, "last_used_at": at} for id, at in self.touches.items()]),
        ):
            if rows:
                yield step(statement, rows)
        entries, reached = yield from self._number()
        sections = {
            "dispatches": self.dispatches,
            "windows": self._windows(),
            "finished": self.finished,
            "entries": entries,
            "heads": [{"tenant_id": id, "seq": seq} for id, seq in reached.items()],
        }
        if any(sections.values()):
            yield Write(sections)
        return set(reached)

    def _number(self) -> Batch[tuple[Rows, dict[TenantId, int]]]:
        if not self.facts:
            return [], {}
        heads = yield step(hot.HEADS, ledgers(self.facts))
        return numbered(self.facts, {row[0]: row[1] for row in heads})

    def _windows(self) -> Rows:
        return [
            {"delegation_id": id, "kind": window.kind, "starts_at": window.start, "used": change}
            for (id, window), change in self.windows.items()
            if change
        ]


def actor(attempt: Attempt) -> str | None:
    """The subject who called `dispatchAction`; nobody at the proxy, where the agent acts by itself."""
    return attempt.by.caller.subject if isinstance(attempt.by, ByCaller) else None


def row_of(go: Go) -> dict[str, Any]:
    """What of an admitted dispatch's row its entries tell."""
    return {
        "id": go.attempt.id,
        "delegation_id": go.delegation_id,
        "binding_id": go.binding_id,
        "delegator_id": go.delegator_id,
        "delegate_id": go.delegate_id,
        "actor": actor(go.attempt),
        "scope": go.route.scope,
        "method": go.attempt.method,
        "path": go.attempt.path,
        "upstream_name": go.attempt.upstream_name,
        "terms_version": go.terms_version,
        "requested_at": go.admitted_at,
        "request_bytes": go.attempt.ask.request_bytes,
    }
