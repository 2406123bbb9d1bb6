"""What can be followed."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry
from graphql import VariableNode, Visitor, visit

from app.api.context import Info
from app.api.described import argument, object_type, subscription
from app.api.inputs.names import maybe_id
from app.api.types.audit import AuditEntry, audit_edge, known_event_names
from app.api.types.nodes import Edge
from app.ledger.read import Wanted
from app.rules.ids import DelegationId
from app.rules.permissions import Permission


@object_type
class Subscription:
    """What can be followed. A stream ends with UNAUTHENTICATED when the key that opened it ends, with FORBIDDEN
    when it may less, and with SLOW_READER when it is not read.
    """

    @subscription
    async def delegation_events(
        self,
        info: Info,
        after: Annotated[
            str | None,
            argument(
                "Go on, without a gap, after this cursor of `auditLog` or of this stream; null: from now on."
            ),
        ] = None,
        events: Annotated[
            list[str] | None, argument("Only these: names or globs such as `delegation.*`, 50 at most.")
        ] = None,
        delegation_id: Annotated[
            strawberry.ID | None, argument("Only what is about this delegation.")
        ] = None,
    ) -> AsyncGenerator[Edge[AuditEntry], None]:
        """Your tenant's log, live. Needs the permission `audit:read`."""
        context = info.context
        context.caller.require(Permission.AUDIT)
        wanted = Wanted(maybe_id(DelegationId, delegation_id), events=known_event_names("events", events))
        entries = context.source.entries(after, wanted, _variable_of(info, "after"))
        async with aclosing(entries):
            async for entry in entries:
                yield audit_edge(entry)


def _variable_of(info: Info, name: str) -> str | None:
    """The variable that an argument of this field is, if it is one and says nothing else."""
    for given in info._raw_info.field_nodes[0].arguments or ():
        if given.name.value == name and isinstance(given.value, VariableNode):
            variable = given.value.name.value
            return variable if _Uses.of(variable, info) == 2 else None  # its type, its use
    return None


class _Uses(Visitor):
    """Counts where a variable stands in what is run."""

    def __init__(self, variable: str) -> None:
        super().__init__()
        self._variable = variable
        self._count = 0

    @classmethod
    def of(cls, variable: str, info: Info) -> int:
        """How often it stands in the operation and in the document's fragments."""
        uses, raw = cls(variable), info._raw_info
        for node in (raw.operation, *raw.fragments.values()):
            visit(node, uses)
        return uses._count

    def enter_variable(self, node: VariableNode, *_: object) -> None:
        self._count += node.name.value == self._variable
