"""The product's schema, its printed form, and the endpoint that serves it."""

from collections.abc import Iterator
from functools import cache

from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    lexicographic_sort_schema,
    print_schema,
)
from starlette.requests import HTTPConnection

from app.api.callbacks import Callbacks
from app.api.context import Context, Gateway
from app.api.door import Door
from app.api.finding import NODES
from app.api.guarded import GuardedSchema
from app.api.live import Live
from app.api.mutations import Mutation
from app.api.queries import Query
from app.api.subscriptions import Subscription
from app.api.types.codes import ErrorCode
from app.api.view import View
from app.edge.address import client_ip
from app.identity.callers import Caller
from app.rules.ids import TenantId


@cache
def make_schema() -> GuardedSchema:
    """The schema; making it takes 0.1 s, so a process makes one."""
    schema = GuardedSchema(Query, Mutation, Subscription, types=[ErrorCode, *NODES])
    for value in _inputs(schema._schema):
        # What may be left out is left out: Strawberry would publish null as its default.
        if value.default_value is None:
            value.default_value = Undefined
    return schema


def _inputs(schema: GraphQLSchema) -> Iterator[GraphQLArgument | GraphQLInputField]:
    for kind in schema.type_map.values():
        if kind.name.startswith("__"):
            continue
        if isinstance(kind, GraphQLInputObjectType):
            yield from kind.fields.values()
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field in kind.fields.values():
                yield from field.args.values()


def print_sdl() -> str:
    """The schema as clients read it, sorted."""
    return print_schema(lexicographic_sort_schema(make_schema()._schema))


def make_view(
    gateway: Gateway, schema: GuardedSchema, live: Live, callbacks: Callbacks
) -> View[Caller, Context]:
    """The endpoint, for callers with an API key."""

    def context_for(caller: Caller, connection: HTTPConnection) -> Context:
        address = client_ip(connection.scope, gateway.settings.trusted_proxies)
        resume = connection.headers.get("last-event-id") if connection.scope["type"] == "http" else None
        return Context(gateway, caller, address, resume or None)

    return View(
        schema,
        authenticate=Door(gateway),
        context_for=context_for,
        whose=_tenant_of,
        batches=live.batches,
        call_back=callbacks.answer,
    )


def _tenant_of(caller: Caller) -> TenantId:
    return caller.tenant_id
