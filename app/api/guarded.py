"""Strawberry's schema with our scalars, limits and errors. Every transport runs operations through `results`."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from functools import partial
from typing import cast

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.graphql import OperationType
from typing_extensions import override

from app.api.documents import Documents, KnownDocuments
from app.api.errors import PublicErrors, failure
from app.api.limits import Limits
from app.api.requests import Operation
from app.api.scalars import SCALARS
from app.api.values import PlacedValues

EVERY_TYPE = frozenset(OperationType)


class GuardedSchema(strawberry.Schema):
    """`types` are those that no field names, such as what implements an interface."""

    def __init__(
        self,
        query: type,
        mutation: type | None = None,
        subscription: type | None = None,
        types: Iterable[type] = (),
    ) -> None:
        documents = Documents()
        super().__init__(
            query,
            mutation,
            subscription,
            types=types,
            config=StrawberryConfig(scalar_map=SCALARS),
            extensions=(PublicErrors, Limits, PlacedValues, partial(KnownDocuments, documents)),
        )

    @override
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Strawberry would log every error, the callers' own too; PublicErrors logs ours."""

    async def results(
        self, operation: Operation, context: object, allowed: Collection[OperationType] = EVERY_TYPE
    ) -> AsyncGenerator[ExecutionResult, None]:
        """One result of a query or mutation, each of a subscription. A fault is a result too: nothing is raised."""
        try:
            stream = await self.stream(
                operation.query,
                variable_values=operation.variables,
                context_value=context,
                operation_name=operation.name,
                allowed_operation_types=allowed,
            )
            async with aclosing(stream):
                async for result in stream:
                    yield cast(ExecutionResult, result)  # the other kind is of @defer, which is off
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not we were cancelled but something a resolver waited for, such as a batch another field shared.
            fault = RuntimeError("what a resolver waited for was cancelled")
            fault.__cause__ = error
            yield failure(fault)
        except Exception as error:  # noqa: BLE001  # failure() logs it
            yield failure(error)
