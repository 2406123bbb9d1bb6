"""Every row class, once. GraphQL types wrap these rows; there is no second shape of an entity.

Instants are microseconds since 1970 in a BIGINT and JSON is text: the same value in both stores, with nothing to
convert on the dispatch path. Ids compare bytewise, so that both stores and Python agree on the order of locks.
The three tables that every dispatch writes (dispatches, windows, ledger) carry no foreign keys: a key check per
row is a row lock per row, and the batch that writes them has read and locked what they point to.
"""

from typing import Any, ClassVar

import orjson
from sqlalchemy import BigInteger, Dialect, ForeignKey, Index, MetaData, String, Text, TypeDecorator, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.rules import ids
from app.rules.entries import Outcome
from app.rules.ids import Instant
from app.rules.lifecycle import Party, Status
from app.rules.permissions import Role
from app.rules.webhooks import DeliveryStatus, EndpointStatus
from app.rules.windows import WindowKind

Bytewise = String().with_variant(String(collation="C"), "postgresql")


class Json(TypeDecorator[Any]):
    """JSON as text, sorted by key."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def _named(kind: type) -> TypeDecorator[Any]:
    class Named(TypeDecorator[Any]):
        """An enum by its value: readable in the database, and no enum type to migrate."""

        impl = Text
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
            return None if value is None else str(value)

        def process_result_value(self, value: Any, dialect: Dialect) -> Any:
            return None if value is None else kind(value)

    return Named()


class Row(DeclarativeBase):
    """The base of every row class."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        Instant: BigInteger(),
        Status: _named(Status),
        Party: _named(Party),
        Role: _named(Role),
        Outcome: _named(Outcome),
        WindowKind: _named(WindowKind),
        EndpointStatus: _named(EndpointStatus),
        DeliveryStatus: _named(DeliveryStatus),
        **dict.fromkeys(
            (
                ids.TenantId,
                ids.ApiKeyId,
                ids.AgentId,
                ids.UpstreamId,
                ids.ActionId,
                ids.DelegationId,
                ids.BindingId,
                ids.TokenId,
                ids.DispatchId,
                ids.EntryId,
                ids.PairId,
                ids.BootId,
                ids.EndpointId,
                ids.DeliveryId,
                ids.CallbackId,
            ),
            Bytewise,
        ),
    }


class Installation(Row):
    """One row: what every node that uses this database must agree on."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    key_check: Mapped[str]


class Tenant(Row):
    """An organization."""

    __tablename__ = "tenants"

    id: Mapped[ids.TenantId] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    plan: Mapped[str]
    created_at: Mapped[Instant]
    #: Raised whenever an upstream or action changes, so that a parsed route table is never an old one.
    routes_revision: Mapped[int] = mapped_column(default=0)


class ApiKey(Row):
    """A key speaks for one subject of one tenant."""

    __tablename__ = "api_keys"

    id: Mapped[ids.ApiKeyId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    subject: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    role: Mapped[Role]
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant | None]
    last_used_at: Mapped[Instant | None]
    revoked_at: Mapped[Instant | None]


class Agent(Row):
    """Something that acts or can be called."""

    __tablename__ = "agents"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    id: Mapped[ids.AgentId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    description: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(Json)
    configuration: Mapped[Any | None] = mapped_column(Json)
    tags: Mapped[list[str]] = mapped_column(Json)
    trust_score: Mapped[int | None]
    created_at: Mapped[Instant]


class Upstream(Row):
    """One of a tenant's services. What is sealed opens only for this tenant, this row and this use."""

    __tablename__ = "upstreams"
    __table_args__ = (Index(None, "tenant_id", "name", unique=True),)

    id: Mapped[ids.UpstreamId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    kind: Mapped[str]
    base_url: Mapped[str]
    credential_header: Mapped[str | None]
    sealed_credential: Mapped[str | None]
    sandbox_base_url: Mapped[str | None]
    sandbox_credential_header: Mapped[str | None]
    sealed_sandbox_credential: Mapped[str | None]
    guardrail_url: Mapped[str | None]
    created_at: Mapped[Instant]


class Action(Row):
    """What one scope allows on one upstream."""

    __tablename__ = "actions"
    __table_args__ = (Index(None, "tenant_id", "scope"),)

    id: Mapped[ids.ActionId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    upstream_id: Mapped[ids.UpstreamId] = mapped_column(ForeignKey("upstreams.id"), index=True)
    scope: Mapped[str]
    method: Mapped[str]
    path: Mapped[str]
    cost_units: Mapped[int]
    response_mode: Mapped[str]
    idempotent: Mapped[bool]
    #: The JSON Schema of a request's body.
    request_schema: Mapped[Any | None] = mapped_column(Json)
    created_at: Mapped[Instant]


class Delegation(Row):
    """The agreement. Its terms are rows of their own; `terms_version` says which are in force."""

    __tablename__ = "delegations"
    __table_args__ = (
        Index(None, "delegator_id", "id"),
        Index(None, "delegate_id", "id"),
        Index("ix_delegations_agent_id", "agent_id"),
        Index("ix_delegations_sent", "delegator_id", "delegate_id", "acceptance", "offered_at"),
        Index(
            "ix_delegations_outgoing",
            "delegator_id",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(
            "ix_delegations_open",
            "offer_expires_at",
            sqlite_where=text("status = 'PENDING'"),
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index(
            "ix_delegations_live",
            "expires_at",
            sqlite_where=text("status IN ('ACTIVE', 'SUSPENDED')"),
            postgresql_where=text("status IN ('ACTIVE', 'SUSPENDED')"),
        ),
    )

    id: Mapped[ids.DelegationId] = mapped_column(primary_key=True)
    delegator_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    delegate_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    agent_id: Mapped[ids.AgentId] = mapped_column(ForeignKey("agents.id"))
    status: Mapped[Status]
    acceptance: Mapped[str]
    environment: Mapped[str]
    offer_hash: Mapped[str | None] = mapped_column(unique=True)
    terms_version: Mapped[int]
    #: The `expiresAt` of the terms in force, for the sweeper's index.
    expires_at: Mapped[Instant]
    offered_at: Mapped[Instant]
    offer_expires_at: Mapped[Instant]
    accepted_at: Mapped[Instant | None]
    #: The hash of the acceptance's idempotency key: its repeat gets the object, never the token again.
    accept_key: Mapped[str | None]
    ended_at: Mapped[Instant | None]
    ended_by: Mapped[Party | None]
    end_reason: Mapped[str | None]
    #: What the first revocation answered, so that a repeat answers the same.
    receipt: Mapped[Any | None] = mapped_column(Json)


class TermsVersion(Row):
    """One immutable version of a delegation's terms. One above the version in force is proposed: the delegate has not
    acknowledged it yet, and the next amendment takes it away.
    """

    __tablename__ = "terms"

    delegation_id: Mapped[ids.DelegationId] = mapped_column(ForeignKey("delegations.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    constraints: Mapped[dict[str, Any]] = mapped_column(Json)
    #: `metadata` is SQLAlchemy's own word.
    metadata_: Mapped[Any] = mapped_column("metadata", Json)
    hash: Mapped[str]
    created_at: Mapped[Instant]
    #: From when it was what is agreed on; null while it is only proposed.
    in_force_at: Mapped[Instant | None]


class Suspension(Row):
    """A time in which a delegation was suspended; it ended by `resumed_at`, or with the delegation."""

    __tablename__ = "suspensions"

    delegation_id: Mapped[ids.DelegationId] = mapped_column(ForeignKey("delegations.id"), primary_key=True)
    suspended_at: Mapped[Instant] = mapped_column(primary_key=True)
    resumed_at: Mapped[Instant | None]


class ScopeUse(Row):
    """When a scope of a delegation was last used, some seconds late: what advice is given by, and nothing else."""

    __tablename__ = "scope_uses"

    delegation_id: Mapped[ids.DelegationId] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    last_used_at: Mapped[Instant]


class Binding(Row):
    """One agent of the delegate, bound to one delegation for good."""

    __tablename__ = "bindings"
    __table_args__ = (Index(None, "delegation_id", "id"), Index(None, "agent_id"))

    id: Mapped[ids.BindingId] = mapped_column(primary_key=True)
    delegation_id: Mapped[ids.DelegationId] = mapped_column(ForeignKey("delegations.id"))
    agent_id: Mapped[ids.AgentId] = mapped_column(ForeignKey("agents.id"))
    created_at: Mapped[Instant]
    revoked_at: Mapped[Instant | None]


class ScopedToken(Row):
    """What a binding's agent shows at the proxy. Only its keyed hash is kept."""

    __tablename__ = "tokens"

    id: Mapped[ids.TokenId] = mapped_column(primary_key=True)
    binding_id: Mapped[ids.BindingId] = mapped_column(ForeignKey("bindings.id"), index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    #: From when it no longer opens anything, because another took its place; may be ahead, in an overlap.
    rotated_at: Mapped[Instant | None]
    last_used_at: Mapped[Instant | None]


class UsageWindow(Row):
    """Admissions under one delegation in one calendar window, or what they cost. Written under the delegation's lock
    alone.
    """

    __tablename__ = "windows"

    delegation_id: Mapped[ids.DelegationId] = mapped_column(primary_key=True)
    kind: Mapped[WindowKind] = mapped_column(primary_key=True)
    starts_at: Mapped[Instant] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(BigInteger)
    #: When both ledgers were told that it is exhausted, which they are once.
    exhausted_at: Mapped[Instant | None]


class Dispatch(Row):
    """One attempt to perform an action."""

    __tablename__ = "dispatches"
    __table_args__ = (
        Index(None, "delegator_id", "id"),
        Index(None, "delegate_id", "id"),
        Index(None, "delegation_id", "id"),
        Index(
            "ix_dispatches_pending",
            "delegation_id",
            sqlite_where=text("outcome = 'PENDING'"),
            postgresql_where=text("outcome = 'PENDING'"),
        ),
    )

    id: Mapped[ids.DispatchId] = mapped_column(primary_key=True)
    delegation_id: Mapped[ids.DelegationId]
    binding_id: Mapped[ids.BindingId]
    token_id: Mapped[ids.TokenId | None]
    delegator_id: Mapped[ids.TenantId]
    delegate_id: Mapped[ids.TenantId]
    #: The subject who called dispatchAction; null at the proxy, where the agent acts by itself.
    actor: Mapped[str | None]
    scope: Mapped[str | None]
    method: Mapped[str]
    path: Mapped[str]
    upstream_name: Mapped[str]
    outcome: Mapped[Outcome]
    code: Mapped[str | None]
    terms_version: Mapped[int]
    requested_at: Mapped[Instant]
    finished_at: Mapped[Instant | None]
    upstream_status: Mapped[int | None]
    request_bytes: Mapped[int]
    response_bytes: Mapped[int | None]
    #: What its action costs where costs are capped. With a default for releases that do not know of it.
    cost_units: Mapped[int] = mapped_column(server_default="1")
    #: The process that answers for it while it is PENDING.
    boot_id: Mapped[ids.BootId]


class IdempotencyKey(Row):
    """A caller's promise that two requests are one: 24 hours, within one binding."""

    __tablename__ = "idempotency_keys"

    binding_id: Mapped[ids.BindingId] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    dispatch_id: Mapped[ids.DispatchId]
    created_at: Mapped[Instant] = mapped_column(index=True)
    #: The answer, sealed; null while there is none, or where it was too large to keep.
    answer: Mapped[str | None]


class Creation(Row):
    """What a mutation with an idempotencyKey has made: 24 hours, within one tenant and mutation."""

    __tablename__ = "creations"

    tenant_id: Mapped[ids.TenantId] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    #: The id of what was made.
    made: Mapped[str]
    created_at: Mapped[Instant] = mapped_column(index=True)


class RefusalCount(Row):
    """Refusals of one binding and code in one minute: the first 60 stand in the ledgers, the rest are counted."""

    __tablename__ = "refusal_counts"

    binding_id: Mapped[ids.BindingId] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[Instant] = mapped_column(primary_key=True, index=True)
    delegation_id: Mapped[ids.DelegationId]
    written: Mapped[int]
    counted: Mapped[int]


class LedgerHead(Row):
    """How many entries a tenant's ledger has. Its lock is what makes `seq` gap-free and commit-ordered."""

    __tablename__ = "ledger_heads"

    tenant_id: Mapped[ids.TenantId] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)


class LedgerEntry(Row):
    """One line of one ledger. `body` is the entry itself, in canonical form; the columns are for finding it."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index(None, "tenant_id", "delegation_id", "seq"),
        # Of one dispatch or pair there are two entries, one in each ledger: no need to sort them by tenant.
        Index(None, "dispatch_id"),
        Index(None, "pair_id"),
    )

    tenant_id: Mapped[ids.TenantId] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[ids.EntryId] = mapped_column(unique=True)
    pair_id: Mapped[ids.PairId]
    event: Mapped[str]
    occurred_at: Mapped[Instant]
    delegation_id: Mapped[ids.DelegationId | None]
    dispatch_id: Mapped[ids.DispatchId | None]
    body: Mapped[str]
    leaf_hash: Mapped[str]


class CallbackSubscription(Row):
    """A subscription that is POSTed to a router. What is sealed opens only for this tenant and row."""

    __tablename__ = "callback_subscriptions"
    __table_args__ = (Index(None, "tenant_id", "subscription_id", "url", unique=True),)

    id: Mapped[ids.CallbackId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    #: By which key it was made, and what that key's role was: it ends when the key does, or may less.
    key_id: Mapped[ids.ApiKeyId] = mapped_column(ForeignKey("api_keys.id"))
    role: Mapped[Role]
    #: The router's own name for it.
    subscription_id: Mapped[str]
    url: Mapped[str]
    sealed_verifier: Mapped[str]
    heartbeat_ms: Mapped[int]
    query: Mapped[str]
    #: JSON, with every integer as it came.
    variables: Mapped[str]
    operation_name: Mapped[str | None]
    #: The last entry of the ledger that the router has taken, or after which it began.
    seq: Mapped[int] = mapped_column(BigInteger)
    #: The process that sends it; none between two of them.
    boot_id: Mapped[ids.BootId | None] = mapped_column(index=True)
    created_at: Mapped[Instant]


class WebhookEndpoint(Row):
    """Where a tenant's ledger is sent to, and how far it has been. What is sealed opens only for this tenant and row."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "tenant_id", "id"),)

    id: Mapped[ids.EndpointId] = mapped_column(primary_key=True)
    tenant_id: Mapped[ids.TenantId] = mapped_column(ForeignKey("tenants.id"))
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(Json)
    description: Mapped[str | None]
    status: Mapped[EndpointStatus]
    disabled_reason: Mapped[str | None]
    sealed_secret: Mapped[str]
    #: The secret before, with which everything is signed too until then.
    sealed_old_secret: Mapped[str | None]
    old_secret_until: Mapped[Instant | None]
    #: The last seq of the ledger of which it has deliveries, or that it does not want.
    cursor: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Instant]
    #: From when it is no endpoint any more, but may still have deliveries to be dropped.
    deleted_at: Mapped[Instant | None]


class WebhookDelivery(Row):
    """One entry on its way to one endpoint. No foreign keys: each is written twice, thousands of times a second."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "endpoint_id", "seq", unique=True),
        Index(
            "ix_webhook_deliveries_due",
            "endpoint_id",
            "due_at",
            sqlite_where=text("status = 'PENDING'"),
            postgresql_where=text("status = 'PENDING'"),
        ),
        Index(
            "ix_webhook_deliveries_failed",
            "endpoint_id",
            "seq",
            sqlite_where=text("status = 'FAILED'"),
            postgresql_where=text("status = 'FAILED'"),
        ),
        Index(
            "ix_webhook_deliveries_ended",
            "due_at",
            sqlite_where=text("status <> 'PENDING'"),
            postgresql_where=text("status <> 'PENDING'"),
        ),
    )

    id: Mapped[ids.DeliveryId] = mapped_column(primary_key=True)
    endpoint_id: Mapped[ids.EndpointId]
    tenant_id: Mapped[ids.TenantId]
    seq: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[DeliveryStatus]
    #: The newest attempts: `at`, `status`, `durationMs`, `error`.
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    #: Failed attempts since it was last asked for: its place in the schedule.
    failures: Mapped[int]
    #: When it is to be attempted while it is PENDING; at the lease's end while somebody attempts it; else when it ended.
    due_at: Mapped[Instant]
    leased_until: Mapped[Instant | None]
    #: How often it was taken. Who took it last may say what became of it.
    claim: Mapped[int]
