"""`idempotencyKey` of whatever creates: from an input to the key that it stands under, and what a repeat is told."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

import orjson
import strawberry

from app.api.context import Context
from app.api.inputs.once import refuse_key
from app.identity.once import Once, Repeat, once
from app.rules.errors import Code, Refusal
from app.rules.permissions import Permission
from app.store.engine import Tx
from app.store.tables import Row

T = TypeVar("T")
R = TypeVar("R", bound=Row)


def already_issued(next_step: str) -> Refusal:
    """What a repeat is told in place of a secret."""
    message = f"this was done before with this idempotencyKey; its secret is not shown again: {next_step}"
    return Refusal(Code.TOKEN_ALREADY_ISSUED, message)


async def create(
    context: Context,
    permission: Permission,
    input: Any,
    make: Callable[[Tx], T | Refusal],
    kind: type[R],
    id_of: Callable[[T], str] = lambda made: made.id,  # type: ignore[attr-defined]  # a row, unless told
) -> T | Repeat[R] | Refusal:
    """Makes what an input asks for, once for each of its keys."""
    context.caller.require(permission)
    if refusal := refuse_key(input.idempotency_key):
        return refusal
    return await context.write(once, context.caller, permission, _key(context, input), make, kind, id_of)


def _key(context: Context, input: Any) -> Once | None:
    given = strawberry.asdict(input)
    key = given.pop("idempotency_key")
    if key is None:
        return None
    whole = [context.tenant_id, type(input).__name__, key]
    meant = orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
    return Once(context.gateway.keys.hash(orjson.dumps(whole).decode()), sha256(meant).hexdigest())
