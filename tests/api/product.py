"""The product on a real server and a real store, and builders that default everything a test does not speak of."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.api.context import Gateway
from app.identity.api_keys import grant_key
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.main import running
from app.rules.errors import Refusal
from app.rules.ids import DAY, Instant
from app.rules.instants import rfc3339
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from app.settings import Settings
from app.store.engine import wall_clock
from tests.serving import TLS
from tests.web.serving import serving

Json = dict[str, Any]

SCOPES = ["receipts:read", "receipts:write"]


@dataclass(frozen=True)
class Tenant:
    """One with an owner's key and an agent that holds SCOPES."""

    id: str
    key: str
    agent: str


class World:
    """A gateway that serves, and its tenants."""

    def __init__(self, gateway: Gateway, http: httpx2.AsyncClient, port: int) -> None:
        self.gateway = gateway
        self.http = http
        self.port = port

    async def post(self, key: str, query: str, **variables: object) -> bytes:
        """The answer, byte by byte."""
        body = {"query": query, "variables": variables}
        answer = await self.http.post("/graphql", json=body, headers={"X-API-Key": key})
        return answer.content

    async def answer(self, key: str, query: str, **variables: object) -> Json:
        """The whole answer: `data` and `errors`."""
        body = {"query": query, "variables": variables}
        answer = await self.http.post("/graphql", json=body, headers={"X-API-Key": key})
        whole: Json = answer.json()
        return whole

    async def ask(self, key: str, query: str, **variables: object) -> Any:
        """The data of an operation that has no errors; of its only field, where it has one."""
        whole = await self.answer(key, query, **variables)
        assert "errors" not in whole, whole["errors"]
        data: Json = whole["data"]
        return next(iter(data.values())) if len(data) == 1 else data

    async def code(self, key: str, query: str, **variables: object) -> str:
        """The code of an operation's first error."""
        whole = await self.answer(key, query, **variables)
        code: str = whole["errors"][0]["extensions"]["code"]
        return code

    async def tenant(self, slug: str, scopes: list[str] = SCOPES) -> Tenant:
        """A tenant of its own."""
        minted = self.gateway.keys.mint(TokenKind.API_KEY)
        made = await self.gateway.store.write(
            create_tenant, slug, slug.title(), "standard", minted, self.gateway.plans
        )
        assert not isinstance(made, Refusal)
        agent = await self.ask(minted.text, REGISTER, input={"name": f"{slug}-agent", "scopes": scopes})
        return Tenant(made.id, minted.text, agent["agent"]["id"])

    async def key(self, tenant: Tenant, role: Role) -> str:
        """Another key of a tenant."""
        minted = self.gateway.keys.mint(TokenKind.API_KEY)
        name = role.lower()
        await self.gateway.store.write(grant_key, tenant.id, name, name, role, minted)
        return minted.text

    async def caller(self, key: str) -> Caller:
        """Who calls with a key."""
        caller = await self.gateway.store.read(find_caller, self.gateway.keys.hash(key))
        assert caller is not None
        return caller

    async def offer(self, by: Tenant, to: Tenant, constraints: Json | None = None, **more: object) -> Json:
        """An offer's payload; its constraints expire in a day unless told."""
        limits = {"expiresAt": later(1), **(constraints or {})}
        offered = {"fromAgentId": by.agent, "toTenantId": to.id, "scopes": SCOPES, "constraints": limits}
        payload: Json = await self.ask(by.key, OFFER, input={**offered, **more})
        return payload

    async def accept(self, by: Tenant, **more: object) -> Json:
        """An acceptance's payload."""
        accepted = {"acceptingAgentId": by.agent, "acknowledgeConstraints": True}
        payload: Json = await self.ask(by.key, ACCEPT, input={**accepted, **more})
        return payload

    async def delegated(self, by: Tenant, to: Tenant, **more: Any) -> Json:
        """An acceptance of a new offer: `delegation`, `binding`, `scopedToken`."""
        offered = await self.offer(by, to, **more)
        assert offered["userErrors"] == []
        accepted = await self.accept(to, offerToken=offered["offerToken"])
        assert accepted["userErrors"] == []
        return accepted


def later(days: float) -> str:
    """An instant in so many days."""
    return rfc3339(Instant(wall_clock() + int(days * DAY)))


ERRORS = "userErrors { code message path }"
REGISTER = (
    f"mutation ($input: RegisterAgentInput!) {{ registerAgent(input: $input) {{ agent {{ id }} {ERRORS} }} }}"
)
OFFER = (
    "mutation ($input: OfferDelegationInput!) { offerDelegation(input: $input) {"
    f" delegation {{ id status }} offerToken {ERRORS} }} }}"
)
ACCEPT = (
    "mutation ($input: AcceptDelegationInput!) { acceptDelegation(input: $input) {"
    f" delegation {{ id status }} binding {{ id }} scopedToken tokenExpiresAt {ERRORS} }} }}"
)
REVOKE = (
    "mutation ($id: ID!, $reason: String!) { revokeDelegation(input: {delegationId: $id, reason: $reason}) {"
    " delegation { id status endedBy endReason }"
    f" receipt {{ revokedAt bindingsEnded tokensEnded inFlightAborted drained }} {ERRORS} }} }}"
)


@pytest.fixture
def webhook_schedule() -> tuple[float, ...]:
    """When webhooks are attempted; a module may have another."""
    return (0.0, 0.05, 0.05, 0.05)


@pytest_asyncio.fixture
async def world(settings: Settings, webhook_schedule: tuple[float, ...]) -> AsyncIterator[World]:
    """A gateway on each store, with loopback in reach."""
    scheduled = settings.model_copy(update={"webhook_schedule": webhook_schedule})
    async with (
        running(scheduled, "http://gateway.test") as process,
        serving(process.app) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=TLS) as http,
    ):
        yield World(process.gateway, http, port)
