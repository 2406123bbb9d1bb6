"""What the decisions of a batch come to, written at its end: one statement for each kind of row."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.ledger.append import Fact, numbered
from app.proxy.attempts import Attempt, ByCaller
from app.proxy.evidence import Standing
from app.rules.entries import Outcome
from app.rules.errors import Code
from app.rules.ids import HOUR, BootId, DelegationId, Instant, TenantId, TokenId
from app.rules.tokens import redacted
from app.rules.windows import Window, WindowKind, windows_at
from app.store import hot_writes
from app.store.hot import Batch, Sections, Write, step
from app.store.hot_writes import Finished, NewDispatch, Usage

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Writes:
    """Collected while deciding."""

    boot_id: BootId
    dispatches: list[NewDispatch] = field(default_factory=list)
    #: Admissions less what is given back, and what they cost, by delegation and the start of the hour they count in.
    reserved: Counter[tuple[DelegationId, Instant]] = field(default_factory=Counter)
    costs: Counter[tuple[DelegationId, Instant]] = field(default_factory=Counter)
    #: Windows of which both ledgers are told that they are exhausted.
    exhausted: dict[tuple[DelegationId, Window], Instant] = field(default_factory=dict)
    finished: list[Finished] = field(default_factory=list)
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
        cost_units: int = 0,
    ) -> NewDispatch:
        """Adds the row of a dispatch: REFUSED where there is a code, else PENDING."""
        row = NewDispatch(
            attempt.id,
            standing.delegation_id,
            standing.binding_id,
            token_id,
            standing.delegator_id,
            standing.delegate_id,
            attempt.by.caller.subject if isinstance(attempt.by, ByCaller) else None,
            scope,
            attempt.method,
            redacted(attempt.path),  # whoever mistook a token for a path shows it to nobody
            redacted(attempt.upstream_name),
            Outcome.REFUSED.value if code else Outcome.PENDING.value,
            code and code.value,
            standing.terms.version,
            now,
            now if code else None,
            attempt.ask.request_bytes,
            cost_units,
            self.boot_id,
        )
        self.dispatches.append(row)
        return row

    def reserve(self, row: NewDispatch) -> None:
        """Counts an admission in the windows that it was made in."""
        self._count(row, 1)

    def give_back(self, row: NewDispatch) -> None:
        """Takes it out of the windows that it was counted in."""
        self._count(row, -1)

    def _count(self, row: NewDispatch, change: int) -> None:
        hour = Instant(row.requested_at // HOUR * HOUR)
        self.reserved[row.delegation_id, hour] += change
        self.costs[row.delegation_id, hour] += change * row.cost_units

    def write(self, heads: Mapping[TenantId, int]) -> Batch[set[TenantId]]:
        """Writes all of it; the ledgers go on from `heads`. Returns whose ledgers moved."""
        for statement, rows in (
            (hot_writes.FREE, self.frees),
            (hot_writes.CLAIM, self.claims),
            (hot_writes.KEEP, self.keeps),
            (hot_writes.TOUCH, [{"id": id, "last_used_at": at} for id, at in self.touches.items()]),
        ):
            if rows:
                yield step(statement, rows)
        entries, reached = numbered(self.facts, heads)
        sections: Sections = {
            "dispatches": self.dispatches,
            "windows": self._usages(),
            "finished": self.finished,
            "entries": entries,
            "heads": list(reached.items()),
        }
        if any(sections.values()):
            yield Write(sections)
        return set(reached)

    def _usages(self) -> list[Usage]:
        changes: Counter[tuple[DelegationId, Window]] = Counter()
        for (id, hour), change in self.reserved.items():
            for window in windows_at(hour):
                is_cost = window.kind is WindowKind.COST_MONTH
                changes[id, window] += self.costs[id, hour] if is_cost else change
        changes.update(dict.fromkeys(self.exhausted, 0))
        return [
            Usage(id, window.kind.value, window.start, change, self.exhausted.get((id, window)))
            for (id, window), change in changes.items()
            if change or (id, window) in self.exhausted
        ]
