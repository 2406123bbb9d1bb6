"""Subscriptions over callbacks: Apollo's HTTP callback protocol 1.0, for routers that hold no connection.

    POST /graphql, Accept: application/json;callbackSpec=1.0, extensions.subscription
      -> check        the router agrees to what it asked for
      <- {"data": null}
      -> next, check, ... complete, until the router answers that it wants no more

What is run is what runs for event streams: all who ask for the same share it. What is kept is a row.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from starlette.responses import Response

from app.api.answers import answer, errors_of, json_response
from app.api.context import Context, Gateway
from app.api.errors import failure
from app.api.followers import lost
from app.api.guarded import GuardedSchema
from app.api.live import Live, passed, start_of
from app.api.pages import log_of
from app.api.requests import Media, Operation
from app.delivery.callbacks.asked import LARGEST_OPERATION, Asked, asked_in
from app.delivery.callbacks.keeper import Held, Keeper
from app.delivery.callbacks.rows import Ran, register
from app.delivery.callbacks.sending import PROTOCOL, Post, Router
from app.delivery.feed import begin
from app.identity.callers import standing
from app.ledger.read import Wanted
from app.rules.errors import BadInput, Code, GatewayError, RateLimited, Refusal
from app.rules.ids import BootId
from app.store.tables import CallbackSubscription, LedgerEntry
from app.telemetry import get_logger

_AGAIN = 1.0  # seconds until what could not go on is tried again
#: What ends a stream but not a subscription, which knows where it is.
_PASSING: Final = frozenset({Code.SLOW_READER, Code.UNAVAILABLE})

log = get_logger()


class _Place:
    """Where a subscription would begin, and nothing of it: what is wrong with one is found out before its router is asked."""

    def __init__(self, live: Live, operation: Operation, context: Context) -> None:
        self.seq: int | None = None
        self._live = live
        self._operation = operation
        self._context = context

    async def entries(
        self, after: str | None, _wanted: Wanted, variable: str | None
    ) -> AsyncGenerator[LedgerEntry, None]:
        self._live.check(self._operation, self._context.caller, variable)
        start = start_of(self._context, after)
        self.seq = await self._context.store.read(begin, self._context.caller, start)
        none: tuple[LedgerEntry, ...] = ()
        for entry in none:
            yield entry


class Callbacks:
    """The subscriptions over callbacks of a process."""

    def __init__(
        self, gateway: Gateway, schema: GuardedSchema, live: Live, post: Post, boot_id: BootId
    ) -> None:
        self._gateway = gateway
        self._schema = schema
        self._live = live
        self._post = post
        self._boot_id = boot_id
        self.keeper = Keeper(gateway.store, gateway.keys, boot_id, post, self._follow)
        self.run = self.keeper.run

    async def answer(self, operation: Operation, context: Context) -> Response:
        """Makes a subscription, once its router has agreed; runs a query or mutation as ever."""
        place = context.source = _Place(self._live, operation, context)
        async with aclosing(self._schema.results(operation, context)) as results:
            async for result in results:  # a subscription that can run has none yet
                return answer(result, Media.JSON)
        assert place.seq is not None, "what has no result is a subscription"
        try:
            await self._subscribe(operation, context, place.seq)
        except GatewayError as no:
            return answer(failure(no), Media.JSON)
        return json_response(b'{"data":null}', Media.JSON, 200, dict([PROTOCOL]))

    async def _subscribe(self, operation: Operation, context: Context, seq: int) -> None:
        asked = asked_in(operation.callback, self._gateway.reach)
        ran = _ran(operation, seq)
        await self._check(asked, context)
        self.keeper.hold(await self._registered(asked, ran, context))

    async def _registered(self, asked: Asked, ran: Ran, context: Context) -> CallbackSubscription:
        while True:
            row = await context.write(register, context.caller, self._gateway.keys, self._boot_id, asked, ran)
            if isinstance(row, Refusal):
                raise RateLimited(row.message) if row.code is Code.RATE_LIMITED else BadInput(row.message)
            if not self.keeper.has_ended(row):
                return row
            await self.keeper.save()  # the one of before goes, so that this is another

    async def _check(self, asked: Asked, context: Context) -> None:
        router = Router(context.tenant_id, asked.url, asked.subscription_id, asked.verifier)
        if (why := await self._post.agreed(router)) is not None:
            raise BadInput(
                f"extensions.subscription.callbackUrl: the check that was POSTed there failed: {why}; "
                "a router answers it with 204"
            )

    async def _follow(self, held: Held) -> None:
        """Sends a subscription's results until it is over."""
        while not held.is_over and not self._gateway.wake.closed:
            try:
                errors = await self._deliver(held)
            except Exception:
                log.exception("callbacks.follow_failed")
                errors = []
            if errors and _code(errors) not in _PASSING:
                await self.keeper.complete(held, errors)
            elif not held.is_over:
                await asyncio.sleep(_AGAIN)

    async def _deliver(self, held: Held) -> Sequence[object]:
        """Sends what comes after its position. Returns the errors with which that ends, if it does."""
        store = self._gateway.share(held.tenant_id)
        caller = (await store.read(standing, [held.key_id])).get(held.key_id)
        no = lost(held.role, caller)
        if caller is None or no is not None:
            return errors_of(failure(no)) if no else ()
        context = Context(
            self._gateway, replace(caller, role=held.role), None, log_of(held.tenant_id).cursor(held.seq)
        )
        operation = Operation(held.query, json.loads(held.variables), held.name)
        held.passed = lambda: passed(context)
        async with aclosing(self._live.batches(operation, context)) as batches:
            async for batch in batches:
                if batch.errors:
                    return batch.errors
                for event in batch.events:
                    await self.keeper.tell(held, event.document, event.seq)
                    if held.is_over:
                        return ()
        return ()


def _ran(operation: Operation, seq: int) -> Ran:
    try:
        variables = json.dumps(operation.variables, sort_keys=True)
        size = len(operation.query.encode()) + len(variables)
    except RecursionError:
        raise BadInput("variables nest too deeply to be kept") from None
    except UnicodeEncodeError:
        raise BadInput("query cannot be kept: it holds half a character, which is no Unicode") from None
    if size > LARGEST_OPERATION:
        raise BadInput(
            f"query has {size:,} bytes with its variables, and {LARGEST_OPERATION:,} is the most over callbacks"
        )
    if "\0" in operation.query:
        raise BadInput("query must not hold a NUL character")
    return Ran(operation.query, variables, operation.name, seq)


def _code(errors: Sequence[Any]) -> Code:
    return Code(errors[0]["extensions"]["code"])
