"""What anybody may ask without a key: the schema, which is public, as tools ask for it.

It must cost us little whoever asks. Answers are kept, no field is shown under a second name, and what is not kept yet
takes at most a twentieth of the loop's time, however many ask.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, cast

import orjson
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
)
from strawberry.types import ExecutionResult

from app.api.errors import failure
from app.api.guarded import GuardedSchema
from app.api.limits import PARSE_OPTIONS, too_complex
from app.api.requests import Operation
from app.rules.errors import RateLimited, Unauthenticated
from app.rules.texts import shown

#: Characters of a document. The introspection queries of tools have 1,700.
LONGEST = 4 * 1024
#: Answers that are kept: one has some 130 KB.
KEPT = 16

_SHARE = 0.05  # of the loop's time
_BURST = 0.5  # seconds of work that may have gathered

_META = ("__schema", "__type", "__typename")


class PublicSchema:
    """Answers introspection to callers without a key."""

    def __init__(self, schema: GuardedSchema, burst: float = _BURST) -> None:
        self._schema = schema
        self._kept: OrderedDict[tuple[str, str | None], ExecutionResult] = OrderedDict()
        self._burst = self._left = burst
        self._since = time.monotonic()

    async def result(self, operation: Operation) -> ExecutionResult:
        """The answer. Raises Unauthenticated for any other operation, RateLimited where too many ask."""
        asked = (operation.query, operation.name)
        kept = None if operation.variables else self._kept.get(asked)
        if kept:
            self._kept.move_to_end(asked)
            return kept
        document = _document(operation.query) if len(operation.query) <= LONGEST else None
        if document is None:
            raise Unauthenticated(
                "no valid API key: send one as X-API-Key; without, only introspection is answered"
            )
        if alias := _alias(document):
            return failure(
                too_complex(f"{shown(alias)} is an alias: introspection without an API key has none")
            )
        result = await self._run(operation)
        if not (result.errors or operation.variables):
            result = self._kept[asked] = _as_bytes(result)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return result

    async def _run(self, operation: Operation) -> ExecutionResult:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._since) * _SHARE)
        self._since = now
        if self._left <= 0:
            raise RateLimited("too many read the schema without an API key just now: send one, or try again")
        began = time.thread_time()
        try:
            return await anext(self._schema.results(operation, None))
        finally:
            self._left -= time.thread_time() - began


def _as_bytes(result: ExecutionResult) -> ExecutionResult:
    # A tenth of what its objects would take.
    data: Any = orjson.Fragment(orjson.dumps(result.data))
    return ExecutionResult(cast(dict[str, Any], data), None)


def _document(query: str) -> DocumentNode | None:
    """The document, where each of its operations is a query for nothing but the schema."""
    try:
        document = parse(query, **PARSE_OPTIONS)
    except GraphQLError:
        return None
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return document if operations and all(_is_meta(node) for node in operations) else None


def _is_meta(operation: OperationDefinitionNode) -> bool:
    # A fragment at the root is not followed: the introspection queries of tools have theirs further down.
    return operation.operation is OperationType.QUERY and all(
        isinstance(selection, FieldNode) and selection.name.value in _META
        for selection in operation.selection_set.selections
    )


def _alias(document: DocumentNode) -> str | None:
    whole = [
        node.selection_set
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode)
    ]
    aliases = (field.alias.value for field in _fields(whole) if field.alias)
    return next(aliases, None)


def _fields(sets: Iterable[SelectionSetNode]) -> Iterator[FieldNode]:
    waiting = [*sets]
    while waiting:
        for selection in waiting.pop().selections:
            if isinstance(selection, FieldNode):
                yield selection
            if isinstance(selection, FieldNode | InlineFragmentNode) and selection.selection_set:
                waiting.append(selection.selection_set)
