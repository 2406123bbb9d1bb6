"""The real thing that the lifecycle's model is compared with: one store, two tenants, and a node at work.

Time jumps by moving the past: every instant of what was agreed and done lies further back afterwards, and the
database's own clock is the real one throughout.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import delete, select, update

from app.delegations.terms import terms_row
from app.identity.callers import Caller
from app.inventory.upstreams import register_upstream
from app.proxy.attempts import Admission, Attempt, Completed, Completion
from app.rules.admission import Ask
from app.rules.amendments import Agreed
from app.rules.entries import Outcome
from app.rules.ids import DelegationId, Instant
from app.rules.paths import parse_path
from app.rules.permissions import Role
from app.rules.routes import ByPath
from app.rules.terms import from_stored
from app.rules.windows import WindowKind, counts, windows_at
from app.settings import Settings
from app.store.engine import Tx
from app.store.tables import (
    Agent,
    Binding,
    Creation,
    Delegation,
    Dispatch,
    IdempotencyKey,
    LedgerEntry,
    LedgerHead,
    RefusalCount,
    Row,
    ScopedToken,
    ScopeUse,
    Suspension,
    TermsVersion,
    UsageWindow,
)
from tests.flows.lifecycle_parts import Can, Token
from tests.flows.nodes import Node, node
from tests.promises import UNSENT
from tests.world import LOOPBACK, Member, World, opened

P = ParamSpec("P")
T = TypeVar("T")

#: What the lent agent holds; of each scope there is one action.
CAN = {"receipts:read": Can(1, True), "receipts:write": Can(3, True), "notes:read": Can(1, False)}
UNHELD = "notes:write"
_PATHS = {
    "receipts:read": ("receipts-api", "GET", "/v1/receipts/7"),
    "receipts:write": ("receipts-api", "POST", "/v1/receipts"),
    "notes:read": ("notes-api", "GET", "/v1/notes"),
    UNHELD: ("notes-api", "POST", "/v1/notes"),
}
ACTORS = ("first", "second")

#: What is gone when a history begins, those first that refer to others.
_HISTORY: tuple[type[Row], ...] = (
    *(LedgerEntry, RefusalCount, IdempotencyKey, Creation, ScopeUse, Dispatch, UsageWindow),
    *(ScopedToken, Binding, Suspension, TermsVersion, Delegation),
)
#: Where instants are moved when time jumps. The ledgers are what was said, and stay.
_MOVED: tuple[type[Row], ...] = (Delegation, TermsVersion, Suspension, Binding, ScopedToken, Dispatch)


@dataclass(frozen=True)
class Cast:
    """Who takes part, in every history."""

    delegator: Member
    delegate: Member
    agent: Agent
    actors: dict[str, Agent]
    authority: Caller


class Stage:
    """Plays one history after the other, and reads what has become of it."""

    def __init__(self, runner: asyncio.Runner, world: World, at: Node, cast: Cast) -> None:
        self.runner, self.world, self.at, self.cast = runner, world, at, cast
        #: Steps that were taken, in all histories; and after how many the first difference was found.
        self.steps = 0
        self.found_after: int | None = None

    def write(
        self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, int]:
        """What a flow answers, and when it did."""

        def timed(tx: Tx) -> tuple[T, int]:
            return flow(tx, *args, **kwargs), tx.now()

        return self.runner.run(self.world.write(timed))

    def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.runner.run(self.world.read(query, *args, **kwargs))

    def forget(self) -> None:
        """Counts from here on."""
        self.steps, self.found_after = 0, None

    def begin(self) -> None:
        """A history in which nothing has happened yet."""
        self.write(_emptied)

    def attempt(self, token: Token, scope: str) -> Attempt:
        """An attempt at the action of a scope."""
        upstream, method, path = _PATHS[scope]
        made = self.at.attempt(_NOBODY, method=method, path=path, token=token.text)
        ask = Ask(ByPath(upstream, method, parse_path(path.encode())), None, 0)
        return made._replace(ask=ask, upstream_name=upstream)

    def now(self) -> int:
        return self.read(lambda tx: tx.now())

    def admit(self, attempts: list[Attempt]) -> list[Admission]:
        """What is said to attempts that are made at once."""

        async def at_once() -> list[Admission]:
            return await asyncio.gather(*map(self.at.committer.admit, attempts))

        return self.runner.run(at_once())

    def complete(self, completion: Completion) -> Completed:
        return self.runner.run(self.at.committer.complete(completion))

    def jump(self, by: int) -> None:
        self.write(_jump, by)

    def hash(self, id: str, version: int) -> str:
        """The hash of one version of a delegation's terms."""
        return self.read(lambda tx: tx.get_one(TermsVersion, (id, version)).hash)

    def decided(self, ids: Sequence[str], asked_at: int) -> dict[str, int]:
        """When dispatches were admitted or refused. What was only counted has no row: it takes `asked_at`.

        That is in its minute: one that turned since had room for the few attempts of a step, and would have recorded it.
        """
        return {**dict.fromkeys(ids, asked_at), **self.read(_decided, ids)}

    def finished(self, id: str) -> int:
        """When a dispatch was completed."""
        finished_at = self.read(lambda tx: tx.get_one(Dispatch, id).finished_at)
        assert finished_at is not None
        return finished_at


_NOBODY: Any = None  # an attempt by a token's text needs no binding


@contextmanager
def stage(settings: Settings) -> Iterator[Stage]:
    """A stage on a fresh store."""
    with asyncio.Runner() as runner:
        closing = AsyncExitStack()

        async def begin() -> Stage:
            world = await closing.enter_async_context(opened(settings))
            cast = await _cast(world)
            return Stage(runner, world, await closing.enter_async_context(node(world)), cast)

        made = runner.run(begin())
        try:
            yield made
        finally:
            runner.run(closing.aclose())


async def _cast(world: World) -> Cast:
    delegator, delegate, authority = [await world.tenant() for _ in range(3)]
    services = {
        name: await world.made(
            register_upstream,
            delegator.owner,
            world.keys,
            LOOPBACK,
            name=name,
            kind="REST",
            base_url="http://127.0.0.1:9",
            sandbox_base_url=sandbox,
        )
        for name, sandbox in (("receipts-api", "http://127.0.0.1:10"), ("notes-api", None))
    }
    for scope, (upstream, method, path) in _PATHS.items():
        cost = CAN[scope].cost if scope in CAN else 1
        await world.action(delegator, services[upstream], scope, method, path, cost_units=cost)
    return Cast(
        delegator,
        delegate,
        await world.agent(delegator, list(CAN)),
        {name: await world.agent(delegate, [], name) for name in ACTORS},
        await world.caller(authority, Role.TRUST_AUTHORITY),
    )


def _emptied(tx: Tx) -> None:
    for kind in _HISTORY:
        tx.execute(delete(kind))
    tx.execute(update(LedgerHead).values(seq=0))
    tx.execute(update(Agent).values(trust_score=None))


def _decided(tx: Tx, ids: Sequence[str]) -> dict[str, int]:
    rows = select(Dispatch.id, Dispatch.requested_at).where(Dispatch.id.in_(ids))
    return dict(tx.execute(rows).all())


# -- the clock


def _jump(tx: Tx, by: int) -> None:
    for kind in _MOVED:
        instants = [column for column in kind.__table__.columns if column.name.endswith("_at")]
        tx.execute(update(kind).values({column.name: column - by for column in instants}))
    tx.expire_all()
    for terms in tx.scalars(select(TermsVersion)):
        made = from_stored({**terms.constraints, "expiresAt": terms.constraints["expiresAt"] - by})
        moved = terms_row(
            terms.delegation_id, terms.version, Agreed(terms.scopes, made, terms.metadata_), terms.created_at
        )
        terms.constraints, terms.hash = moved.constraints, moved.hash
    _recount(tx, by)


def _recount(tx: Tx, by: int) -> None:
    """The windows of the calendar stand still, and what they had counted falls into others."""
    before = list(tx.scalars(select(UsageWindow).where(UsageWindow.exhausted_at.is_not(None))))
    told = sorted((row.delegation_id, row.kind, Instant((row.exhausted_at or 0) - by)) for row in before)
    tx.execute(delete(UsageWindow))
    tx.expunge_all()
    used: Counter[tuple[DelegationId, WindowKind, Instant]] = Counter()
    exhausted: dict[tuple[DelegationId, WindowKind, Instant], Instant] = {}
    for row in tx.scalars(select(Dispatch).where(Dispatch.outcome != Outcome.REFUSED)):
        if row.outcome is not Outcome.FAILED or row.code not in UNSENT:
            for each in windows_at(row.requested_at):
                used[row.delegation_id, each.kind, each.start] += counts(each.kind, row.cost_units)
    for id, kind, at in told:
        start = next(each.start for each in windows_at(at) if each.kind is kind)
        exhausted.setdefault((id, kind, start), at)
    for place in {*used, *exhausted}:
        id, kind, start = place
        at_last = exhausted.get(place)
        tx.add(
            UsageWindow(delegation_id=id, kind=kind, starts_at=start, used=used[place], exhausted_at=at_last)
        )
