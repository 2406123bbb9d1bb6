"""What is lent in a benchmark: by one tenant to another, in two delegations of one upstream. One has hardly any terms,
the other has all of them.
"""

from dataclasses import dataclass
from typing import TypeVar

from app.api.context import Gateway
from app.delegations.acceptance import Accepted, OfferRef, accept
from app.delegations.offers import OfferDraft, offer
from app.delegations.trust import report_trust
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import register_upstream
from app.rules.errors import Refusal
from app.rules.ids import DAY, AgentId, DelegationId, Instant, TenantId
from app.rules.terms import Constraints
from app.rules.tokens import TokenKind
from app.store.engine import wall_clock
from tests.bench import governed

T = TypeVar("T")

_SCOPE = "r:w"
#: Scope, method, path template and JSON Schema of each.
_ACTIONS = (
    (_SCOPE, "POST", "/v1/r/{id}", None),
    (_SCOPE, "GET", "/size/{bytes}", None),
    (governed.SCOPE, governed.METHOD, governed.TEMPLATE, governed.SCHEMA),
)


@dataclass(frozen=True)
class Member:
    """A tenant with an owner's key and an agent."""

    owner: Caller
    key: str
    agent_id: AgentId

    @property
    def id(self) -> TenantId:
        """The tenant's."""
        return self.owner.tenant_id


@dataclass(frozen=True)
class Lent:
    """An accepted delegation, and its scoped token."""

    id: DelegationId
    token: str


@dataclass(frozen=True)
class Lending:
    """Who lends what to whom."""

    acme: Member
    globex: Member
    plain: Lent
    governed: Lent


def made(result: T | Refusal) -> T:
    """What a flow made; a refusal ends the run."""
    assert not isinstance(result, Refusal), result
    return result


async def lend(gateway: Gateway, upstream_port: int) -> Lending:
    """One tenant lends another what calls the upstream."""
    acme = await member(gateway, "acme", [_SCOPE, governed.SCOPE])
    globex = await member(gateway, "globex", [])
    await _expose(gateway, acme.owner, upstream_port)
    made(await gateway.store.write(report_trust, None, globex.agent_id, governed.TRUST, "a benchmark's"))
    expires_at = Instant(wall_clock() + DAY)
    hardly_any = Constraints(expires_at, max_actions_per_hour=10**9)
    plain = await _lent(gateway, acme, globex, _SCOPE, hardly_any)
    all_of_them = governed.constraints(expires_at)
    return Lending(acme, globex, plain, await _lent(gateway, acme, globex, governed.SCOPE, all_of_them))


async def member(gateway: Gateway, slug: str, scopes: list[str]) -> Member:
    """A new tenant, whose agent can do these."""
    store, key = gateway.store, gateway.keys.mint(TokenKind.API_KEY)
    made(await store.write(create_tenant, slug, slug.title(), "standard", key, gateway.plans))
    owner = await store.read(find_caller, key.hash)
    assert owner is not None
    agent = made(await store.write(register_agent, owner, AgentDraft(f"{slug}-agent", "", scopes, None, [])))
    return Member(owner, key.text, agent.id)


async def _expose(gateway: Gateway, owner: Caller, port: int) -> None:
    write, keys, allow = gateway.store.write, gateway.keys, gateway.settings.egress_allow
    url = f"http://127.0.0.1:{port}"
    upstream = made(await write(register_upstream, owner, keys, allow, name="api", kind="REST", base_url=url))
    for scope, method, path, schema in _ACTIONS:
        made(
            await write(
                define_action,
                owner,
                upstream.id,
                scope=scope,
                method=method,
                path=path,
                cost_units=1,
                response_mode="BUFFERED",
                idempotent=False,
                request_schema=schema,
            )
        )


async def _lent(gateway: Gateway, by: Member, to: Member, scope: str, terms: Constraints) -> Lent:
    write, minted = gateway.store.write, gateway.keys.mint(TokenKind.OFFER)
    draft = OfferDraft(by.agent_id, to.id, [scope], terms, "TOKEN", "LIVE", None, {})
    made(await write(offer, by.owner, draft, minted, gateway.plans))
    accepted = await write(
        accept,
        to.owner,
        OfferRef(minted.hash, None),
        to.agent_id,
        gateway.keys,
        acknowledged=True,
        expected_hash=None,
        accept_key=None,
    )
    assert isinstance(accepted, Accepted), accepted
    assert accepted.issued is not None
    return Lent(accepted.delegation.id, accepted.issued.minted.text)
