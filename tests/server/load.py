"""A load whose every request can be told from every other, so that its log can be compared as a set."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from tests.server.client import Answer, Connection, Gone
from tests.server.lending import Lending, Loan, ended
from tests.upstreams import Upstream


@dataclass(slots=True)
class Log:
    """What the callers know: the answer to each path, and the paths to which no whole answer came."""

    answers: dict[str, Answer] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def released(self) -> dict[str, str | None]:
        """The dispatch that answered each path with the service's own answer."""
        return {path: each.dispatch_id for path, each in self.answers.items() if each.status == 200}

    async def answered(self, count: int) -> None:
        """Waits for so many answers."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.answers) >= count)

    async def call(self, port: int, loan: Loan) -> None:
        """Asks until the gateway is gone."""
        with suppress(OSError):
            async with Connection(port) as connection:
                while True:
                    path = f"/v1/receipts/{next(self._numbers)}"
                    self.unknown.add(path)
                    try:
                        self.answers[path] = await connection.ask("GET", loan.at(path), [loan.bearer])
                    except Gone:
                        return
                    self.unknown.remove(path)
                    async with self._more:
                        self._more.notify_all()


async def assert_nothing_lost(lending: Lending, loan: Loan, service: Upstream, log: Log) -> set[str]:
    """Callers, service, dispatches and both ledgers agree as sets. Returns the dispatches that a crash left open."""
    rows = await lending.admitted(loan)
    outcomes = {row.outcome for row in rows.values()}
    assert outcomes <= {"COMPLETED", "INDETERMINATE"}
    for entries in await lending.ledgers(loan):
        assert sorted(ended(entries)) == sorted(rows), "each has one entry in each ledger"
        told = {(entry.dispatch_id, entry.outcome) for entry in entries if entry.event == "delegation.action"}
        assert told == {(row.id, row.outcome) for row in rows.values()}

    completed = {row.path: row.id for row in rows.values() if row.outcome == "COMPLETED"}
    open_ones = {row.path: row.id for row in rows.values() if row.outcome == "INDETERMINATE"}
    seen = set(service.dispatch_ids)
    assert len(seen) == len(service.seen), "nothing was sent twice"
    assert seen <= set(rows), "nothing was sent that was not admitted"
    assert set(completed.values()) <= seen
    assert log.released.items() <= completed.items(), "whatever was released is COMPLETED"
    assert completed.keys() - log.released.keys() <= log.unknown, (
        "whatever is COMPLETED was released, or cut off"
    )
    assert open_ones.keys() <= log.unknown | (log.answers.keys() - log.released.keys())
    return set(open_ones.values())
