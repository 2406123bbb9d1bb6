"""The rows of the isolation matrix: who may ask for what, and what anybody else learns of it (promise 7).

A new root field, or a new argument that takes an id, fails `test_isolation.py` until it has a row here. A row is a
document, variables named like the field's arguments, and whatever of it is not the default of `Row`:

    _finds("agent", lambda own: own.agent, "name", counterparty=Sees({"name": "the agent"}))
    _mutates("renameAgent", lambda own: {"agentId": own.agent, "name": "x"}, may=ADMINS)

The matrix asks it as each tenant with that tenant's own ids, and then with one id after the other replaced by somebody
else's and by one that does not exist. A document shows nothing that depends on the ids that were asked for. Where no
field of `Own` fits, the world below needs one more.
"""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Literal

from app.api.pages import log_of
from app.rules.errors import Code
from app.rules.ids import TenantId
from app.rules.permissions import Role
from tests.api.product import ERRORS, REVOKE, Tenant, World, later
from tests.api.test_product_dispatch import DISPATCH
from tests.api.test_product_reading import action_of, upstream_of

Json = dict[str, Any]
Name = Literal["acme", "globex", "initech"]

# ------------------------------------------------------------------ who there is


@dataclass(frozen=True)
class Own:
    """What a tenant has or has a part in: an id of each kind. Of what is shared, both parties have the same."""

    tenant: str
    agent: str
    upstream: str
    upstream_name: str
    action: str
    hidden_action: str  # of a scope that is not lent
    api_key: str
    entry: str
    fact: str  # the pair id of an entry that stands in its log alone
    request: str  # an idempotency key
    webhook: str
    webhook_delivery: str

    partner: str  # the other party's tenant
    delegation: str
    terms_hash: str
    lent_action: str
    actor: str  # the delegate's agent that is bound
    binding: str
    token: str
    dispatch: str
    pair: str  # the pair id of an entry that stands in both logs
    offer: str
    offer_token: str
    spare_offer: str
    spare_token: str


@dataclass(frozen=True)
class Member:
    """A tenant, its keys, and its ids. `ended` are the same ids, but those of a delegation that was revoked."""

    name: Name
    tenant: Tenant
    keys: Mapping[Role, str] = field(repr=False)
    own: Own
    ended: Own

    @property
    def ids(self) -> frozenset[str]:
        """All of its ids; names are not, for another may choose the same."""
        names = {self.own.upstream_name, self.own.request}
        return frozenset({*astuple(self.own), *astuple(self.ended)}) - names


@dataclass(frozen=True)
class Cast:
    """Acme lends to globex. Initech is a stranger to both, and has the same with a tenant that takes no part."""

    acme: Member
    globex: Member
    initech: Member

    @property
    def members(self) -> tuple[Member, ...]:
        return self.acme, self.globex, self.initech

    def __getitem__(self, name: Name) -> Member:
        return {member.name: member for member in self.members}[name]


# ------------------------------------------------------------------ what a row says


@dataclass(frozen=True)
class Blind:
    """It answers as if there were no such thing."""


@dataclass(frozen=True)
class Sees:
    """The field answers with this; None: with something, and not as if there were no such thing."""

    shown: Any = None


@dataclass(frozen=True)
class Refused:
    """It says that it does not do it: a userError with this code and path, or an error with this code."""

    code: Code
    path: tuple[str, ...] = ()


Expected = Blind | Sees | Refused

DELEGATOR: tuple[Name, ...] = ("acme",)
DELEGATE: tuple[Name, ...] = ("globex",)
EITHER: tuple[Name, ...] = ("acme", "globex")

ALL = frozenset(Role)
READERS = ALL - {Role.TRUST_AUTHORITY, Role.PLATFORM}
OWNER = frozenset({Role.OWNER})
ADMINS = OWNER | {Role.ADMIN}
OPERATORS = ADMINS | {Role.OPERATOR}
AUDITORS = ADMINS | {Role.AUDITOR}
AUTHORITY = frozenset({Role.TRUST_AUTHORITY})


@dataclass(frozen=True)
class Row:
    """One way of asking a field. The defaults are those of a query for what only its owner sees."""

    name: str  # of the field, such as Query.agent
    document: str
    variables: Callable[[Own], Json] = lambda own: {}
    #: Which roles may.
    may: frozenset[Role] = READERS
    #: Whose it is.
    by: tuple[Name, ...] = EITHER
    #: What the other party gets for it.
    counterparty: Expected = Blind()
    #: What those whose it is get once the delegation has ended. None: they go on reading; a mutation has to say.
    ended: Expected | None = None
    #: The codes, one for each id, with which it answers to what does not exist. None: with null, or nothing.
    unknown: tuple[Code | None, ...] = (None,)
    #: Ids that are no secret, and why.
    told: Mapping[str, str] = field(default_factory=dict)
    #: Arguments to compare that are neither ids nor tokens.
    also: tuple[str, ...] = ()
    #: Whether each tenant asks it first, so that what it names is there.
    beforehand: bool = False
    #: Whether it succeeds as it stands. If not, it still answers otherwise than to what does not exist.
    succeeds: bool = True
    #: Whether its refusal of a party stands in both logs (promise 6).
    recorded: bool = False
    #: Of Query.node: the type that it finds.
    kind: str = ""

    @property
    def changes(self) -> bool:
        return self.name.startswith("Mutation.")

    @property
    def follows(self) -> bool:
        return self.name.startswith("Subscription.")

    @property
    def role(self) -> Role:
        """The highest that may."""
        return next(role for role in Role if role in self.may)


Id = Callable[[Own], str]
Given = Callable[[Own], Json]


def _finds(name: str, id: Id, shows: str, **more: Any) -> Row:
    document = f"query ($id: ID!) {{ {name}(id: $id) {{ {shows} }} }}"
    return Row(f"Query.{name}", document, lambda own: {"id": id(own)}, **more)


def _node(kind: str, id: Id, *, seen: bool = False, **more: Any) -> Row:
    counterparty = Sees({"__typename": kind}) if seen else Blind()
    return _finds("node", id, "__typename", kind=kind, counterparty=counterparty, **more)


def _nodes(ids: Callable[[Own], list[str]], **more: Any) -> Row:
    document = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename } }"
    return Row("Query.nodes", document, lambda own: {"ids": ids(own)}, **more)


def _lists(filter: Given, **more: Any) -> Row:
    document = (
        "query ($filter: DelegationFilter) {"
        " delegations(direction: OUTGOING, filter: $filter) { totalCount nodes { status } } }"
    )
    return Row("Query.delegations", document, lambda own: {"filter": filter(own)}, by=DELEGATOR, **more)


def _logs(filter: Given, event: str | None = None, **more: Any) -> Row:
    document = "query ($filter: AuditFilter) { auditLog(filter: $filter, first: 1) { nodes { event } } }"
    counterparty = Sees({"nodes": [{"event": event}]}) if event else Blind()
    variables = {"may": AUDITORS, "counterparty": counterparty, **more}
    return Row("Query.auditLog", document, lambda own: {"filter": filter(own)}, **variables)


def _explains(scope: str, input: Given, **more: Any) -> Row:
    document = (
        "query ($input: ExplainDispatchInput!) {"
        " explainDispatch(input: $input) { allowed code checks { name passed code detail } } }"
    )
    return Row(
        "Query.explainDispatch",
        document,
        lambda own: {"input": {"delegationId": own.delegation, "scope": scope, **input(own)}},
        counterparty=Sees({"allowed": True, "code": None, "checks": []}),
        unknown=(Code.BAD_USER_INPUT, None),
        **more,
    )


def _mutates(name: str, input: Given, shows: str = "", **more: Any) -> Row:
    kind = f"{name[0].upper()}{name[1:]}Input"
    document = f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ {shows} {ERRORS} }} }}"
    more = {"may": ADMINS, "unknown": (Code.NOT_FOUND,), **more}
    return Row(f"Mutation.{name}", document, lambda own: {"input": input(own)}, **more)


def _ends(name: str, argument: str, id: Id, **more: Any) -> Row:
    document = f"mutation (${argument}: ID!) {{ {name}({argument}: ${argument}) {{ {ERRORS} }} }}"
    more = {"may": ADMINS, "unknown": (Code.NOT_FOUND,), **more}
    return Row(f"Mutation.{name}", document, lambda own: {argument: id(own)}, **more)


def _dispatches(scope: str, action: Given, **more: Any) -> Row:
    return _mutates(
        "dispatchAction",
        lambda own: {"bindingId": own.binding, "scope": scope, **action(own)},
        "dispatch { outcome code } response { status }",
        may=OPERATORS,
        succeeds=False,  # nobody listens at the upstream's address
        **more,
    )


ADDRESS = "a tenant's id is its address: anybody may ask whether there is one"
WRONG_STATE = Refused(Code.WRONG_STATE, ("delegationId",))
NOT_ACCEPTABLE: Json = {
    "may": OWNER,
    "by": DELEGATE,
    "ended": Refused(Code.OFFER_NOT_ACCEPTABLE),
    "unknown": (Code.OFFER_NOT_ACCEPTABLE, Code.NOT_FOUND),
}
UNBOUND = Sees({"binding": {"usable": False}, "userErrors": []})
REVOKED = Sees({"delegation": {"status": "REVOKED"}, "userErrors": []})

# ------------------------------------------------------------------ what is read

_READ = (
    Row("Query.viewer", "{ viewer { tenant { id } plan { activeOutgoing } } }", may=ALL),
    _node("Tenant", lambda own: own.tenant, told={"id": ADDRESS}),
    _node("ApiKey", lambda own: own.api_key, may=ADMINS),
    _node("Agent", lambda own: own.agent, seen=True),
    _node("Upstream", lambda own: own.upstream),
    _node("Action", lambda own: own.action, by=DELEGATOR, seen=True),
    _node("Delegation", lambda own: own.delegation, seen=True),
    _node("Binding", lambda own: own.binding, seen=True),
    _node("ScopedToken", lambda own: own.token, by=DELEGATE),
    _node("Dispatch", lambda own: own.dispatch, seen=True),
    _node("AuditEntry", lambda own: own.entry, may=AUDITORS),
    _nodes(lambda own: [own.upstream, own.hidden_action]),
    _nodes(lambda own: [own.api_key], may=ADMINS),
    _nodes(
        lambda own: [own.delegation, own.binding],
        counterparty=Sees([{"__typename": "Delegation"}, {"__typename": "Binding"}]),
    ),
    _finds(
        "agent",
        lambda own: own.agent,
        "name configuration trustScore tags",
        counterparty=Sees({"name": "the agent", "configuration": None, "trustScore": None, "tags": None}),
    ),
    Row("Query.agents", "{ agents { totalCount nodes { id name } } }"),
    Row("Query.upstreams", "{ upstreams { id name actions { id } } }"),
    Row("Query.apiKeys", "{ apiKeys { id prefix } }", may=ADMINS),
    _finds("delegation", lambda own: own.delegation, "status", counterparty=Sees({"status": "ACTIVE"})),
    _finds(
        "delegation",
        lambda own: own.delegation,
        "agent { scopes }",
        by=DELEGATOR,
        counterparty=Sees({"agent": {"scopes": ["receipts:read"]}}),
    ),
    _finds(
        "delegation",
        lambda own: own.delegation,
        "bindings { nodes { tokens { __typename } } }",
        by=DELEGATE,
        counterparty=Sees({"bindings": {"nodes": [{"tokens": []}]}}),
    ),
    _finds(
        "delegation",
        lambda own: own.delegation,
        "audit(first: 1) { nodes { event } }",
        by=DELEGATOR,
        counterparty=Sees({"audit": {"nodes": [{"event": "delegation.accepted"}]}}),
    ),
    Row("Query.delegations", "{ delegations(direction: OUTGOING) { nodes { id } } }", by=DELEGATOR),
    Row("Query.delegations", "{ delegations(direction: INCOMING) { nodes { id } } }", by=DELEGATE),
    _lists(lambda own: {"agentId": own.agent}),
    _lists(lambda own: {"counterpartyTenantId": own.partner}),
    Row(
        "Query.offerPreview",
        "query ($offerToken: String!) { offerPreview(offerToken: $offerToken) { status } }",
        lambda own: {"offerToken": own.offer_token},
        may=OWNER,
        by=DELEGATE,
        ended=Blind(),
    ),
    _finds("binding", lambda own: own.binding, "usable", counterparty=Sees({"usable": True})),
    _finds(
        "binding",
        lambda own: own.binding,
        "tokens { __typename }",
        by=DELEGATE,
        counterparty=Sees({"tokens": []}),
    ),
    _finds("dispatch", lambda own: own.dispatch, "outcome", counterparty=Sees({"outcome": "FAILED"})),
    Row("Query.dispatches", "{ dispatches { nodes { id } } }"),
    Row(
        "Query.dispatches",
        "query ($delegationId: ID) { dispatches(delegationId: $delegationId, first: 1) { nodes { outcome } } }",
        lambda own: {"delegationId": own.delegation},
        counterparty=Sees({"nodes": [{"outcome": "FAILED"}]}),
    ),
    Row("Query.auditLog", "{ auditLog { nodes { id } } }", may=AUDITORS),
    _logs(lambda own: {"delegationId": own.delegation}, "delegation.accepted", by=DELEGATOR),
    _logs(lambda own: {"dispatchId": own.dispatch}, "delegation.action"),
    _logs(lambda own: {"pairId": own.pair}, "delegation.accepted"),
    _logs(lambda own: {"pairId": own.fact}),
    Row(
        "Subscription.delegationEvents",
        "subscription ($after: String, $delegationId: ID) {"
        " delegationEvents(after: $after, delegationId: $delegationId) { node { event } } }",
        lambda own: {"delegationId": own.delegation, "after": log_of(TenantId(own.tenant)).cursor(0)},
        may=AUDITORS,
        by=DELEGATOR,
        counterparty=Sees({"node": {"event": "delegation.accepted"}}),
        unknown=(Code.UNAUTHENTICATED,),  # nothing, until the key that follows is revoked
    ),
)

# ------------------------------------------------------------------ what is changed

_CHANGED = (
    _mutates("registerAgent", lambda own: {"name": "x", "scopes": []}),
    _mutates("updateAgent", lambda own: {"agentId": own.agent, "description": "x"}),
    _mutates(
        "registerUpstream",
        lambda own: {"name": own.upstream_name, "kind": "REST", "baseUrl": "http://127.0.0.1:9"},
        also=("input.name",),  # whether another has a service of this name
        unknown=(None,),
        succeeds=False,  # one's own name is taken
    ),
    _mutates("updateUpstream", lambda own: {"upstreamId": own.upstream}),
    _mutates(
        "defineAction",
        lambda own: {"upstreamId": own.upstream, "scope": "reports:read", "method": "GET", "path": "/v1/x"},
    ),
    _mutates("createApiKey", lambda own: {"name": "x", "role": "VIEWER"}, may=OWNER),
    _mutates(
        "offerDelegation",
        lambda own: {
            "fromAgentId": own.agent,
            "toTenantId": own.partner,
            "scopes": ["receipts:read"],
            "constraints": {"expiresAt": later(1)},
        },
        may=OWNER,
        told={"input.toTenantId": ADDRESS},
    ),
    _mutates("acceptDelegation", lambda own: _accepting(own, delegationId=own.offer), **NOT_ACCEPTABLE),
    _mutates("acceptDelegation", lambda own: _accepting(own, offerToken=own.offer_token), **NOT_ACCEPTABLE),
    _mutates("declineDelegation", lambda own: {"delegationId": own.spare_offer}, **NOT_ACCEPTABLE),
    _mutates("declineDelegation", lambda own: {"offerToken": own.spare_token}, **NOT_ACCEPTABLE),
    _mutates(
        "createBinding",
        lambda own: {"delegationId": own.delegation, "agentId": own.agent},
        may=OPERATORS,
        by=DELEGATE,
        counterparty=WRONG_STATE,
        ended=WRONG_STATE,
    ),
    _dispatches("receipts:read", lambda own: {}, by=DELEGATE, ended=Refused(Code.DELEGATION_REVOKED)),
    _dispatches(
        "receipts:read",
        lambda own: {"actionId": own.lent_action},
        by=DELEGATE,
        ended=Refused(Code.DELEGATION_REVOKED),
        unknown=(Code.NOT_FOUND, Code.ACTION_NOT_FOUND),
        recorded=True,
    ),
    _dispatches(
        "receipts:write",
        lambda own: {"actionId": own.hidden_action},
        by=(),  # nobody's: it is not lent
        unknown=(Code.NOT_FOUND, Code.ACTION_NOT_FOUND),
        recorded=True,
    ),
)


def _accepting(own: Own, **offer: str) -> Json:
    return {**offer, "acceptingAgentId": own.agent, "acknowledgeConstraints": True}


# ------------------------------------------------------------------ what ends something: last, for all are performed

_ENDED = (
    _mutates(
        "rotateToken",
        lambda own: {"bindingId": own.binding},
        may=OPERATORS,
        by=DELEGATE,
        ended=Refused(Code.WRONG_STATE, ("bindingId",)),
    ),
    _mutates(
        "revokeBinding",
        lambda own: {"bindingId": own.binding},
        "binding { usable }",
        may=OPERATORS,
        by=("globex", "acme"),
        counterparty=UNBOUND,
        ended=UNBOUND,
    ),
    _ends("removeAction", "actionId", lambda own: own.action),
    _mutates(
        "revokeDelegation",
        lambda own: {"delegationId": own.delegation, "reason": "over"},
        "delegation { status }",
        counterparty=REVOKED,
        ended=REVOKED,
    ),
    _ends("revokeApiKey", "apiKeyId", lambda own: own.api_key, may=OWNER),
)

# ------------------------------------------------------------------ what comes with "Governed terms"

_BY_DELEGATOR: Json = {"by": DELEGATOR, "counterparty": WRONG_STATE, "ended": WRONG_STATE}

_GOVERNED = (
    Row("Query.sharedAgents", "{ sharedAgents { nodes { name tenant { id } } } }", by=DELEGATE),
    _explains("receipts:read", lambda own: {}, by=DELEGATOR),
    _explains("receipts:read", lambda own: {"agentId": own.actor}, by=DELEGATOR),
    _explains("receipts:read", lambda own: {"actionId": own.lent_action}, by=DELEGATOR),
    _explains("receipts:write", lambda own: {"actionId": own.hidden_action}, by=()),
    _mutates(
        "amendDelegation",
        lambda own: {"delegationId": own.delegation, "expectedVersion": 1, "maxActionsPerDay": 100},
        **_BY_DELEGATOR,
    ),
    _mutates(
        "acknowledgeTerms",
        lambda own: {"delegationId": own.delegation, "termsHash": own.terms_hash},
        may=OWNER,
        by=DELEGATE,
        counterparty=WRONG_STATE,
        ended=WRONG_STATE,
        succeeds=False,  # no terms are proposed
    ),
    _mutates(
        "suspendDelegation",
        lambda own: {"delegationId": own.delegation, "reason": "for a while"},
        **_BY_DELEGATOR,
    ),
    _mutates("resumeDelegation", lambda own: {"delegationId": own.delegation}, **_BY_DELEGATOR),
    _mutates(
        "reportTrustScore",
        lambda own: {"agentId": own.agent, "score": 80, "reason": "x"},
        may=AUTHORITY,
        told={"input.agentId": "a trust authority reports on any tenant's agents"},
    ),
    _mutates(
        "registerAgent",
        lambda own: {"name": "x", "scopes": [], "idempotencyKey": own.request},
        "agent { tenant { slug } }",
        unknown=(None,),
        also=("input.idempotencyKey",),
        beforehand=True,
    ),
    _mutates(
        "createApiKey",
        lambda own: {"name": "x", "role": "VIEWER", "idempotencyKey": own.request},
        "apiKey { role }",
        may=OWNER,
        unknown=(None,),
        also=("input.idempotencyKey",),
        beforehand=True,
        succeeds=False,  # a repeat is told that it is one
    ),
)

# ------------------------------------------------------------------ what comes with "Webhooks"

_WEBHOOKS = (
    _node("WebhookEndpoint", lambda own: own.webhook, may=ADMINS),
    _node("WebhookDelivery", lambda own: own.webhook_delivery, may=ADMINS),
    Row("Query.webhookEndpoints", "{ webhookEndpoints { id deliveries { nodes { id } } } }", may=ADMINS),
    _mutates("createWebhookEndpoint", lambda own: _HOOK),
    _mutates(
        "createWebhookEndpoint",
        lambda own: {**_HOOK, "idempotencyKey": own.request},
        "endpoint { status }",
        unknown=(None,),
        also=("input.idempotencyKey",),
        beforehand=True,
        succeeds=False,  # a repeat is told that it is one
    ),
    _mutates("updateWebhookEndpoint", lambda own: {"endpointId": own.webhook, "description": "x"}),
    _mutates("rotateWebhookSecret", lambda own: {"endpointId": own.webhook}),
    _ends("testWebhook", "endpointId", lambda own: own.webhook),
    _mutates("redeliver", lambda own: {"deliveryId": own.webhook_delivery}),
    _mutates("recoverDeliveries", lambda own: {"endpointId": own.webhook, "since": "2026-01-01T00:00:00Z"}),
    _ends("deleteWebhookEndpoint", "endpointId", lambda own: own.webhook),
)

#: In the order in which they are performed.
ROWS: tuple[Row, ...] = (*_READ, *_GOVERNED, *_CHANGED, *_WEBHOOKS, *_ENDED)

# ------------------------------------------------------------------ the world that they are asked in

_LENT = "receipts:read"
#: Nobody listens there, and nothing happens that it is for.
_HOOK: Json = {"url": "http://127.0.0.1:9/hook", "events": ["delegation.expired"]}
_CREATE_HOOK = "mutation ($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) { endpoint { id } } }"
_TEST_HOOK = "mutation ($id: ID!) { testWebhook(endpointId: $id) { delivery { id } } }"
_SHARED = (
    "query ($id: ID!) { binding(id: $id) { tokens { id } delegation { terms { hash }"
    ' audit(first: 1, events: ["delegation.accepted"]) { nodes { pairId } } } } }'
)
_PRIVATE = "mutation ($input: UpdateAgentInput!) { updateAgent(input: $input) { userErrors { code } } }"
_DECLINE = (
    "mutation ($input: DeclineDelegationInput!) { declineDelegation(input: $input) { userErrors { code } } }"
)


async def prepared(world: World) -> Cast:
    """Acme, globex and initech, each with one of everything."""
    acme, globex, initech, hooli = [
        await world.tenant(slug) for slug in ("acme", "globex", "initech", "hooli")
    ]
    private = {each.id: await _private(world, each) for each in (acme, globex, initech, hooli)}
    lent, borrowed = [
        await _pair(world, by, to, private[by.id]["action"]) for by, to in ((acme, globex), (hooli, initech))
    ]
    return Cast(
        await _member(world, "acme", acme, private[acme.id], lent, globex),
        await _member(world, "globex", globex, private[globex.id], lent, acme),
        await _member(world, "initech", initech, private[initech.id], borrowed, hooli),
    )


@dataclass(frozen=True)
class _Pair:
    """What two tenants share now, and what of it differs under a delegation that has ended."""

    now: dict[str, str]
    ended: dict[str, str]


async def _member(
    world: World, name: Name, tenant: Tenant, private: dict[str, str], shared: _Pair, partner: Tenant
) -> Member:
    keys = {role: await world.key(tenant, role) for role in Role}
    own = Own(**private, **shared.now, partner=partner.id)
    return Member(name, tenant, keys, own, replace(own, **shared.ended))


async def _private(world: World, tenant: Tenant) -> dict[str, str]:
    kept = {"name": "the agent", "configuration": {"model": "m"}, "tags": ["a"]}
    await world.ask(tenant.key, _PRIVATE, input={"agentId": tenant.agent, **kept})
    name = f"api-of-{tenant.id[-12:]}"
    upstream = (await upstream_of(world, tenant, name))["id"]
    logged = await world.ask(tenant.key, "{ auditLog(first: 1) { nodes { id pairId } } }")
    [entry] = logged["nodes"]
    hook = (await world.ask(tenant.key, _CREATE_HOOK, input=_HOOK))["endpoint"]["id"]
    sent = (await world.ask(tenant.key, _TEST_HOOK, id=hook))["delivery"]["id"]
    return {
        "tenant": tenant.id,
        "agent": tenant.agent,
        "upstream": upstream,
        "upstream_name": name,
        "action": (await action_of(world, tenant, upstream, _LENT, "/v1/receipts"))["id"],
        "hidden_action": (await action_of(world, tenant, upstream, "receipts:write", "/v1/hidden/{id}"))[
            "id"
        ],
        "api_key": (await world.caller(await world.key(tenant, Role.VIEWER))).key_id,
        "entry": entry["id"],
        "fact": entry["pairId"],
        "request": f"request-of-{tenant.id}",
        "webhook": hook,
        "webhook_delivery": sent,
    }


async def _pair(world: World, by: Tenant, to: Tenant, action: str) -> _Pair:
    now, ended = [{**await _lent(world, by, to), **await _offers(world, by, to)} for _ in range(2)]
    await world.ask(by.key, REVOKE, id=ended["delegation"], reason="over")
    for name in ("offer", "spare_offer"):
        await world.ask(to.key, _DECLINE, input={"delegationId": ended[name]})
    for name in ("offer_token", "spare_token"):
        await world.ask(to.key, _DECLINE, input={"offerToken": ended[name]})
    return _Pair({**now, "lent_action": action, "actor": to.agent}, ended)


async def _lent(world: World, by: Tenant, to: Tenant) -> dict[str, str]:
    accepted = await world.delegated(by, to, scopes=[_LENT])
    binding: str = accepted["binding"]["id"]
    done = await world.ask(to.key, DISPATCH, input={"bindingId": binding, "scope": _LENT})
    read = await world.ask(to.key, _SHARED, id=binding)
    return {
        "delegation": accepted["delegation"]["id"],
        "terms_hash": read["delegation"]["terms"]["hash"],
        "binding": binding,
        "token": read["tokens"][0]["id"],
        "dispatch": done["dispatch"]["id"],
        "pair": read["delegation"]["audit"]["nodes"][0]["pairId"],
    }


async def _offers(world: World, by: Tenant, to: Tenant) -> dict[str, str]:
    addressed = [await world.offer(by, to, acceptance="ADDRESSED", scopes=[_LENT]) for _ in range(2)]
    by_token = [await world.offer(by, to, scopes=[_LENT]) for _ in range(2)]
    return {
        "offer": addressed[0]["delegation"]["id"],
        "spare_offer": addressed[1]["delegation"]["id"],
        "offer_token": by_token[0]["offerToken"],
        "spare_token": by_token[1]["offerToken"],
    }
