"""A world of tenants on a real store. Its builders default everything, so that a test says only what matters to it.

    async def test_…(world: World) -> None:
        lent = await world.delegation(max_actions_per_hour=3)
        revoked = await world.write(revoke, lent.delegate.owner, lent.id, "over")

Builders go through the product's own flows; what a flow answers is asserted by them to be no refusal.
"""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
from pydantic import SecretStr
from sqlalchemy import Select, select

from app.delegations.acceptance import Accepted, OfferRef, accept
from app.delegations.amending import Amendment, amend_delegation
from app.delegations.bindings import Issued, create_binding, rotate_token
from app.delegations.offers import OfferDraft, offer
from app.delegations.suspension import resume, suspend
from app.delegations.trust import report_trust
from app.identity.api_keys import grant_key
from app.identity.callers import Caller, find_caller
from app.identity.plans import load_plans
from app.identity.tenants import create_tenant
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import Credential, register_upstream
from app.rules.amendments import Changes
from app.rules.errors import Refusal
from app.rules.ids import DAY, SECOND, AgentId, BindingId, BootId, DelegationId, Instant, TenantId
from app.rules.permissions import Role
from app.rules.terms import Constraints
from app.rules.tokens import TokenKind
from app.settings import Settings
from app.store.engine import Store, Tx, wall_clock
from app.store.installation import make_store, prepare
from app.store.keys import Keys, Minted, new_id
from app.store.tables import (
    Action,
    Agent,
    Binding,
    Delegation,
    LedgerEntry,
    Row,
    ScopedToken,
    Tenant,
    Upstream,
)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Row)

SECRET = "the secret of a world that ends with its test"
SCOPES = ("receipts:read", "receipts:write")
PLANS = load_plans(Settings())
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass(frozen=True)
class Member:
    """A tenant, and its owner as a caller."""

    tenant: Tenant
    owner: Caller
    key: str = field(repr=False)

    @property
    def id(self) -> TenantId:
        return self.tenant.id


@dataclass(frozen=True)
class Offered:
    """An open offer. `token` is empty where it is ADDRESSED."""

    delegator: Member
    delegate: Member
    agent: Agent
    delegation: Delegation
    ref: OfferRef
    token: str = field(repr=False)

    @property
    def id(self) -> DelegationId:
        return self.delegation.id


@dataclass(frozen=True)
class Bound:
    """A binding and its scoped token."""

    binding: Binding
    issued: ScopedToken
    token: Minted

    @property
    def id(self) -> BindingId:
        return self.binding.id


@dataclass(frozen=True)
class Lent:
    """An accepted delegation. `agent` is the delegator's, `actor` the delegate's that is bound to it."""

    offered: Offered
    actor: Agent
    delegation: Delegation
    bound: Bound

    @property
    def id(self) -> DelegationId:
        return self.delegation.id

    @property
    def delegator(self) -> Member:
        return self.offered.delegator

    @property
    def delegate(self) -> Member:
        return self.offered.delegate

    @property
    def agent(self) -> Agent:
        return self.offered.agent

    @property
    def binding(self) -> Binding:
        return self.bound.binding


class World:
    """Tenants on one store, with the keys that they are kept under."""

    def __init__(self, store: Store, keys: Keys, settings: Settings, boot_id: BootId) -> None:
        self.store = store
        self.keys = keys
        self.settings = settings
        self.boot_id = boot_id
        #: What each plan allows; a test may make one as small as it likes.
        self.plans = dict(PLANS)
        self._numbers = itertools.count(1)

    # -- transactions

    async def write(self, flow: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a flow in a transaction of its own."""
        return await self.store.write(flow, *args, **kwargs)

    async def read(self, query: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a query in a snapshot."""
        return await self.store.read(query, *args, **kwargs)

    async def made(
        self, flow: Callable[Concatenate[Tx, P], T | Refusal], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a flow that a test takes for granted."""
        result = await self.store.write(flow, *args, **kwargs)
        assert not isinstance(result, Refusal), result
        return result

    # -- who

    async def tenant(self, slug: str | None = None) -> Member:
        """A tenant with an owner's key."""
        key = self.keys.mint(TokenKind.API_KEY)
        slug = slug or f"tenant-{next(self._numbers)}"
        tenant = await self.made(create_tenant, slug, slug.title(), "standard", key, self.plans)
        return Member(tenant, await self._caller(key), key.text)

    async def caller(self, member: Member, role: Role = Role.ADMIN, subject: str = "somebody") -> Caller:
        """Another caller of the tenant."""
        return await self._caller(await self.key(member, role, subject))

    async def key(self, member: Member, role: Role = Role.ADMIN, subject: str = "somebody") -> Minted:
        """Another API key of the tenant."""
        key = self.keys.mint(TokenKind.API_KEY)
        await self.made(grant_key, member.id, "a key", subject, role, key)
        return key

    async def _caller(self, key: Minted) -> Caller:
        caller = await self.read(find_caller, key.hash)
        assert caller is not None
        return caller

    # -- what they have

    async def agent(self, member: Member, scopes: Sequence[str] = SCOPES, name: str = "agent") -> Agent:
        """An agent that can do these."""
        return await self.made(register_agent, member.owner, AgentDraft(name, "", list(scopes), None, []))

    async def upstream(
        self,
        member: Member,
        name: str = "receipts-api",
        base_url: str = "http://127.0.0.1:9",
        credential: Credential | None = None,
    ) -> Upstream:
        """A service, at an address where nobody listens unless told."""
        return await self.made(
            register_upstream,
            member.owner,
            self.keys,
            LOOPBACK,
            name=name,
            kind="REST",
            base_url=base_url,
            credential=credential,
        )

    async def action(
        self,
        member: Member,
        upstream: Upstream,
        scope: str = SCOPES[0],
        method: str = "GET",
        path: str = "/v1/receipts/{id}",
        *,
        idempotent: bool = False,
        cost_units: int = 1,
        request_schema: object = None,
    ) -> Action:
        """What a scope allows on a service."""
        return await self.made(
            define_action,
            member.owner,
            upstream.id,
            scope=scope,
            method=method,
            path=path,
            cost_units=cost_units,
            response_mode="BUFFERED",
            idempotent=idempotent,
            request_schema=request_schema,
        )

    async def service(self, member: Member, base_url: str = "http://127.0.0.1:9") -> Upstream:
        """A service with an action for each of SCOPES: reading is idempotent, writing is not."""
        upstream = await self.upstream(member, base_url=base_url)
        await self.action(member, upstream, idempotent=True)
        await self.action(member, upstream, SCOPES[1], "POST", "/v1/receipts")
        return upstream

    # -- what they lend

    def later(self, seconds: float) -> Instant:
        """So many seconds from now."""
        return Instant(wall_clock() + int(seconds * SECOND))

    def draft(
        self,
        agent: AgentId,
        delegate: TenantId,
        *,
        scopes: Sequence[str] = SCOPES,
        lives: float = DAY / SECOND,
        acceptance: str = "TOKEN",
        environment: str = "LIVE",
        offer_expires_at: Instant | None = None,
        metadata: Any = None,
        **limits: Any,
    ) -> OfferDraft:
        """An offer that nothing is wrong with. `lives` are seconds, `limits` are those of Constraints."""
        constraints = Constraints(**{"expires_at": self.later(lives), **limits})
        return OfferDraft(
            agent,
            delegate,
            list(scopes),
            constraints,
            acceptance,
            environment,
            offer_expires_at,
            {} if metadata is None else metadata,
        )

    async def offer(
        self,
        delegator: Member | None = None,
        delegate: Member | None = None,
        agent: Agent | None = None,
        **given: Any,
    ) -> Offered:
        """An open offer; `given` is as for `draft`."""
        delegator = delegator or await self.tenant()
        delegate = delegate or await self.tenant()
        agent = agent or await self.agent(delegator)
        draft = self.draft(agent.id, delegate.id, **given)
        minted = self.keys.mint(TokenKind.OFFER) if draft.acceptance == "TOKEN" else None
        delegation = await self.made(offer, delegator.owner, draft, minted, self.plans)
        ref = OfferRef(minted.hash, None) if minted else OfferRef(None, delegation.id)
        return Offered(delegator, delegate, agent, delegation, ref, minted.text if minted else "")

    async def try_accept(
        self,
        by: Caller,
        ref: OfferRef,
        actor: AgentId,
        *,
        acknowledged: bool = True,
        expected_hash: str | None = None,
        accept_key: str | None = None,
    ) -> Accepted | Refusal:
        """What becomes of an acceptance."""
        return await self.write(
            accept,
            by,
            ref,
            actor,
            self.keys,
            acknowledged=acknowledged,
            expected_hash=expected_hash,
            accept_key=accept_key,
        )

    async def accept(
        self, offered: Offered, actor: Agent | None = None, accept_key: str | None = None
    ) -> Lent:
        """Accepts an offer."""
        actor = actor or await self.agent(offered.delegate, [], "actor")
        accepted = await self.try_accept(offered.delegate.owner, offered.ref, actor.id, accept_key=accept_key)
        assert isinstance(accepted, Accepted), accepted
        assert accepted.issued is not None
        return Lent(offered, actor, accepted.delegation, _bound(accepted.issued))

    async def delegation(self, delegator: Member | None = None, **given: Any) -> Lent:
        """An accepted delegation of a service that the delegator has; `given` is as for `offer`."""
        if delegator is None:
            delegator = await self.tenant()
            await self.service(delegator)
        return await self.accept(await self.offer(delegator, **given))

    async def bind(self, lent: Lent, actor: Agent | None = None) -> Bound:
        """One more binding of a delegation."""
        actor = actor or await self.agent(lent.delegate, [], "another actor")
        return _bound(await self.made(create_binding, lent.delegate.owner, lent.id, actor.id, self.keys))

    async def rotate(self, lent: Lent, overlap: int = 0) -> Bound:
        """A new token for the delegation's first binding; the old one opens for so many seconds more."""
        owner, id = lent.delegate.owner, lent.binding.id
        return _bound(await self.made(rotate_token, owner, id, overlap, self.keys))

    # -- what they make of it later

    async def amend(
        self,
        lent: Lent,
        *,
        scopes: Sequence[str] | None = None,
        clear: Sequence[str] = (),
        metadata: Any = None,
        **limits: Any,
    ) -> Delegation:
        """Amends the terms in force, whichever they are; `limits` are those of Constraints."""
        version = (await self.row(Delegation, lent.id)).terms_version
        changes = Changes(None if scopes is None else list(scopes), limits, clear, metadata)
        asked = Amendment(lent.id, version, changes, "as a test wants it")
        return await self.made(amend_delegation, lent.delegator.owner, asked)

    async def suspend(self, lent: Lent) -> Delegation:
        """Halts a delegation."""
        return await self.made(suspend, lent.delegator.owner, lent.id, "as a test wants it")

    async def resume(self, lent: Lent) -> Delegation:
        """Puts a suspended delegation into force again."""
        return await self.made(resume, lent.delegator.owner, lent.id)

    async def trust(self, agent: Agent, score: int) -> Agent:
        """Reports an agent's trust score, as the command line does."""
        return await self.made(report_trust, None, agent.id, score, "as a test wants it")

    # -- what became of it

    async def rows(self, kind: type[R], *where: Any) -> list[R]:
        """The rows of a table, all unless told, by their keys."""
        return await self.read(_rows, select(kind).where(*where).order_by(*kind.__table__.primary_key))

    async def row(self, kind: type[R], *key: Any) -> R:
        """A row as it is now."""
        return await self.read(lambda tx: tx.get_one(kind, key if len(key) > 1 else key[0]))

    async def ledger(self, member: Member, *events: str) -> list[dict[str, Any]]:
        """The entries of a ledger in order, of these events where any are named."""
        rows = await self.rows(LedgerEntry, LedgerEntry.tenant_id == member.id)
        return [orjson.loads(row.body) for row in rows if not events or row.event in events]

    async def age(self, kind: type[Row], id: str, **values: object) -> None:
        """Gives a row the instants that only days would give it."""
        await self.write(_age, kind, id, values)


def _age(tx: Tx, kind: type[Row], id: str, values: dict[str, object]) -> None:
    row = tx.get_one(kind, id)
    for name, value in values.items():
        setattr(row, name, value)


def _rows(tx: Tx, statement: Select[R]) -> list[R]:
    return list(tx.scalars(statement))


def _bound(issued: Issued) -> Bound:
    return Bound(issued.binding, issued.token, issued.minted)


def settings_for(data_dir: Path, database_url: str | None) -> Settings:
    """The settings of a world: SQLite in the folder, or a PostgreSQL by its DSN."""
    environment = [name for name in os.environ if name.startswith("CROSSGRANT_") and "TEST" not in name]
    assert not environment, f"{environment} would change what is tested: unset them"
    secret = SecretStr(SECRET)
    return Settings(data_dir=data_dir, database_url=database_url, secret_key=secret, egress_allow=LOOPBACK)


@asynccontextmanager
async def opened(settings: Settings, boot_id: BootId | None = None) -> AsyncIterator[World]:
    """A world on a store that is brought up to date, for the length of a block."""
    assert settings.secret_key is not None
    keys = Keys(settings.secret_key.get_secret_value().encode())
    boot_id = boot_id or BootId(new_id("bot"))
    store = make_store(settings, boot_id, serves=True)
    try:
        await prepare(store, keys)
        yield World(store, keys, settings, boot_id)
    finally:
        await store.close()
