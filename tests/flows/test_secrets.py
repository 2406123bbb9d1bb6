"""Secrets are not retrievable: whoever has every byte of the store has no token, no key and no credential."""

from pathlib import Path

import asyncpg
import orjson

from app.delegations.acceptance import decline
from app.egress.outcomes import Answer
from app.identity.api_keys import create_key
from app.inventory.upstreams import Credential, UpstreamChanges, update_upstream
from app.proxy.answers import answered, open_answer, seal_answer
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.store.tables import Agent, Row
from tests.flows.nodes import ANSWERED, node
from tests.world import LOOPBACK, SECRET, World

CREDENTIALS = (
    Credential("Authorization", "Bearer first-of-them"),
    Credential("X-Key", "second-of-them"),
    Credential("X-Key", "the-sandboxes-own"),
)
ANSWER = Answer(200, ANSWERED.headers, b"what the upstream told the delegate alone")


async def everything(world: World) -> bytes:
    """Every byte that the store keeps: SQLite's files as they are on disk, or each row of PostgreSQL as text."""
    url = world.settings.database_url
    if url is None:
        return b"".join(path.read_bytes() for path in sorted(_files(world.settings.data_dir)))
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows = [
            await connection.fetch(f"SELECT t::text FROM {table} t")  # noqa: S608  # a table of ours
            for table in Row.metadata.tables
        ]
    finally:
        await connection.close()
    return "\n".join(row[0] for found in rows for row in found).encode()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def live_a_little(world: World) -> tuple[list[str], list[str]]:
    """Every token that the world gives away in a life, and every other secret."""
    first, second, sandbox = CREDENTIALS
    lent = await world.delegation()
    owner = lent.delegator.owner
    upstream = await world.upstream(lent.delegator, "other-api", credential=first)
    changes = UpstreamChanges(None, second, "http://127.0.0.1:10", sandbox)
    await world.made(update_upstream, owner, world.keys, LOOPBACK, upstream.id, changes)
    rotated, key = (await world.rotate(lent, 60)).token, world.keys.mint(TokenKind.API_KEY)
    await world.made(
        create_key, owner, name="a key", subject=None, role=Role.VIEWER, expires_at=None, minted=key
    )
    declined = await world.offer()
    await world.made(decline, declined.delegate.owner, declined.ref, "no")
    async with node(world) as at:
        go = await at.go(lent, key="an idempotency key of the delegate")
        sealed = seal_answer(world.keys, lent.delegator.id, answered(go.attempt.id, ANSWER))
        await at.complete(go, ANSWER, sealed)
    tokens = [lent.delegator.key, lent.delegate.key, key.text, lent.bound.token.text, rotated.text]
    offers = [lent.offered.token, declined.token]
    credentials = [each.value for each in CREDENTIALS]
    told = ["an idempotency key of the delegate", ANSWER.body.decode(), *credentials, SECRET]
    return tokens + offers, told


async def test_no_secret_is_in_the_store(world: World) -> None:
    tokens, others = await live_a_little(world)
    kept = (await everything(world)).decode("utf-8", "replace")
    for known in ("tenant-1", "other-api", "X-Key", tokens[0][:8]):
        assert known in kept, "this is where the rows are"
    for token in tokens:
        assert token[15:-6] not in kept, "neither the token nor the most of it"
    for secret in others:
        assert secret not in kept


async def test_the_harness_catches_a_token_that_is_kept(world: World) -> None:
    lent = await world.delegation()
    await world.age(Agent, lent.agent.id, description=f"its token is {lent.bound.token.text}")
    assert lent.bound.token.text[15:-6] in (await everything(world)).decode("utf-8", "replace")


async def test_a_kept_answer_opens_for_its_dispatch_alone(world: World) -> None:
    lent = await world.delegation()
    async with node(world) as at:
        go, other = await at.go(lent), await at.go(lent)
    answer = answered(go.attempt.id, ANSWER)
    sealed = seal_answer(world.keys, lent.delegator.id, answer) or ""
    opened = open_answer(world.keys, lent.delegator.id, go.attempt.id, sealed)
    assert opened is not None
    assert (opened.body, opened.replayed) == (ANSWER.body, True)
    assert open_answer(world.keys, lent.delegator.id, other.attempt.id, sealed) is None
    assert open_answer(world.keys, lent.delegate.id, go.attempt.id, sealed) is None


async def test_nothing_that_is_logged_or_shown_in_a_traceback_tells_a_secret(world: World) -> None:
    lent = await world.delegation()
    token, credential = lent.bound.token, CREDENTIALS[0]
    shown = repr([token, credential, lent, world.keys, world.settings])
    for secret in (token.text, credential.value, lent.delegator.key, SECRET):
        assert secret not in shown


async def test_the_ledgers_name_a_token_by_its_prefix(world: World) -> None:
    lent = await world.delegation()
    told = orjson.dumps(await world.ledger(lent.delegate)).decode()
    assert lent.bound.token.prefix in told
    assert lent.bound.token.hash not in told
    assert lent.offered.delegation.offer_hash is not None
    assert lent.offered.delegation.offer_hash not in told
