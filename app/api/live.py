"""How a subscription runs: by itself until it has caught up, then with all who asked for the same.

A thousand subscribers of one tenant who run the same operation cost one read of its ledger for each batch of events, one
run of the operation for each event, and a write each.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

from strawberry.types import ExecutionResult

from app.api.batches import Batch, Close, single
from app.api.context import Context, Gateway
from app.api.errors import before_data, code_of
from app.api.followers import FORBIDDEN, UNAUTHORIZED, Follower
from app.api.groups import Group, SharedContext
from app.api.guarded import GuardedSchema
from app.api.pages import log_of
from app.api.requests import Operation
from app.delivery.feed import Feed, Position, catch_up
from app.identity.callers import Caller
from app.ledger.read import Wanted
from app.rules.errors import BadInput, Code, RateLimited
from app.rules.ids import TenantId
from app.rules.permissions import Role
from app.store.tables import LedgerEntry

_CLOSES = {Code.UNAUTHENTICATED: UNAUTHORIZED, Code.FORBIDDEN: FORBIDDEN}

#: Joins the group of an operation: what it wants, how far it has read, and the variable that holds its own cursor.
Joining = Callable[[Wanted, int, str | None], Follower]


class Own:
    """The events of one subscription, until the others' are its own."""

    def __init__(self, context: Context, join: Joining) -> None:
        self.follower: Follower | None = None
        self.has_begun = self.has_joined = False
        #: Of the entry that was taken last.
        self.seq = 0
        self.cursor: str | None = None
        self._context = context
        self._log = log_of(context.tenant_id)
        self._join = join

    async def entries(
        self, after: str | None, wanted: Wanted, variable: str | None
    ) -> AsyncGenerator[LedgerEntry, None]:
        """Entries of its tenant's log after a cursor. `Last-Event-ID` is the later one: it came with a reconnection."""
        start = start_of(self._context, after)

        def join(reached: int) -> int:
            self.follower = self._join(wanted, reached, variable)
            return self.follower.since

        context, self.has_begun = self._context, True
        pages = catch_up(context.store, context.caller, start, wanted, join, Position())
        async with aclosing(pages):
            async for entry in pages:
                self.seq, self.cursor = entry.seq, self._log.cursor(entry.seq)
                yield entry
        self.has_joined = True


def start_of(context: Context, after: str | None) -> int | None:
    """The place after which a subscription begins. Raises BadInput, naming what holds a cursor that is none."""
    name, cursor = ("after", after) if context.resume is None else ("Last-Event-ID", context.resume)
    try:
        return log_of(context.tenant_id).page(after=cursor).after
    except BadInput as bad:
        raise BadInput(f"{name}{bad.message.removeprefix('after')}") from None


def passed(context: Context) -> int:
    """Up to where whoever reads a subscription has done with everything; 0 while it has anything in hand."""
    source = context.source
    return source.follower.passed if isinstance(source, Own) and source.follower else 0


class _Asked(NamedTuple):
    """What makes answers the same."""

    tenant_id: TenantId
    role: Role
    query: str
    name: str | None
    variables: str


class Live:
    """The subscriptions of a process."""

    most_groups = 100  # of one tenant

    def __init__(self, gateway: Gateway, schema: GuardedSchema) -> None:
        self._gateway = gateway
        self._schema = schema
        self._feed = Feed(gateway.wake)
        self._groups: dict[_Asked, Group] = {}

    async def batches(self, operation: Operation, context: Context) -> AsyncGenerator[Batch, None]:
        """The results of an operation, whatever kind it is of."""
        join: Joining = lambda *place: self._join(operation, context, *place)  # noqa: E731
        own = context.source = Own(context, join)
        try:
            await context.store.pause()  # a large document takes its time before it begins
            async with aclosing(self._schema.results(operation, context)) as results:
                async for result in results:
                    close = _close(result) if own.has_begun else None
                    yield single(result, own.seq, own.cursor, close)
                    await context.store.pause()  # long pages do not keep the loop from the others
            if own.has_joined and own.follower is not None:
                async with aclosing(own.follower.batches()) as batches:
                    async for batch in batches:
                        yield batch
        finally:
            if own.follower is not None:
                own.follower.leave()

    def check(self, operation: Operation, caller: Caller, variable: str | None) -> None:
        """Raises RateLimited where the operation would be one too many, and BadInput where it cannot be shared."""
        if _asked(operation, caller, variable) not in self._groups:
            self._check_room(caller.tenant_id)

    def _join(
        self, operation: Operation, context: Context, wanted: Wanted, reached: int, variable: str | None
    ) -> Follower:
        caller, asked = context.caller, _asked(operation, context.caller, variable)
        group = self._groups.get(asked)
        if group is None:
            self._check_room(caller.tenant_id)
            tail = self._feed.tail(context.store, caller.tenant_id, reached)
            shared = SharedContext(self._gateway, caller)
            group = self._groups[asked] = Group(self._schema, operation, shared, wanted, tail)
            group.on_over = lambda: self._forget(asked, group)
        return group.follow(caller, reached)

    def _check_room(self, tenant_id: TenantId) -> None:
        # Each runs for every event, where one more follower of the same costs a write.
        if sum(asked.tenant_id == tenant_id for asked in self._groups) >= self.most_groups:
            raise RateLimited(
                f"your tenant follows its log by {self.most_groups} different operations, the most it may: "
                "give cursors as variables, and let subscribers ask for the same"
            )

    def _forget(self, asked: _Asked, group: Group) -> None:
        if self._groups.get(asked) is group:
            del self._groups[asked]


def _asked(operation: Operation, caller: Caller, variable: str | None) -> _Asked:
    variables = _without(operation, variable)
    return _Asked(caller.tenant_id, caller.role, operation.query, operation.name, variables)


def _without(operation: Operation, variable: str | None) -> str:
    """The variables, but for the one that says where a subscriber begins."""
    rest = {name: value for name, value in operation.variables.items() if name != variable}
    try:
        return json.dumps(rest, sort_keys=True)
    except RecursionError:
        raise BadInput("variables: they nest too deeply") from None


def _close(result: ExecutionResult) -> Close | None:
    if not before_data(result):
        return None
    code = _CLOSES.get(code_of(result))
    return Close(code, (result.errors or [])[0].message) if code else None
