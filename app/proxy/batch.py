"""One batch: every admission and completion that waits, in one transaction.

The steps: find what to lock; lock the delegations, then their tenants' ledgers; read the clock and the evidence; decide
in plain Python; write what was decided, and number and append its entries. One item's refusal never fails its batch.
The number of statements does not depend on the number of items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.proxy.admitting import Refusal, admit
from app.proxy.attempts import Admission, Attempt, Completed, Completion
from app.proxy.completing import complete
from app.proxy.destinations import Destinations
from app.proxy.evidence import look
from app.proxy.leads import Leads
from app.proxy.refusing import refuse
from app.proxy.writes import Writes
from app.rules.ids import BootId, TenantId
from app.store.hot import Batch


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the items, in their order, and whose ledgers moved."""

    admissions: list[Admission]
    completions: list[Completed]
    appended: set[TenantId]


def commit(
    attempts: Sequence[Attempt],
    completions: Sequence[Completion],
    boot_id: BootId,
    leads: Leads,
    destinations: Destinations,
) -> Batch[Outcomes]:
    """Runs one batch. The store drives it: each yield is a statement, each send its rows."""
    writes = Writes(boot_id)
    found = yield from leads.follow(attempts)
    sight = yield from look(attempts, found, completions, destinations)
    judged = [admit(sight, writes, attempt, lead) for attempt, lead in zip(attempts, found, strict=True)]
    refused = yield from refuse(sight, writes, [each for each in judged if isinstance(each, Refusal)])
    answers = iter(refused)
    admissions = [next(answers) if isinstance(each, Refusal) else each for each in judged]
    completed = [complete(sight, writes, each) for each in completions]
    appended = yield from writes.write(sight.heads)
    return Outcomes(admissions, completed, appended)
