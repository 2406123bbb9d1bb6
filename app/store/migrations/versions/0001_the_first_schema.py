"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "dispatches",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("binding_id", Bytewise, nullable=False),
        sa.Column("token_id", Bytewise, nullable=True),
        sa.Column("delegator_id", Bytewise, nullable=False),
        sa.Column("delegate_id", Bytewise, nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("upstream_name", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("terms_version", sa.Integer(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("upstream_status", sa.Integer(), nullable=True),
        sa.Column("request_bytes", sa.Integer(), nullable=False),
        sa.Column("response_bytes", sa.Integer(), nullable=True),
        sa.Column("boot_id", Bytewise, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dispatches"),
    )
    op.create_index("ix_dispatches_delegate_id_id", "dispatches", ["delegate_id", "id"], unique=False)
    op.create_index("ix_dispatches_delegation_id_id", "dispatches", ["delegation_id", "id"], unique=False)
    op.create_index("ix_dispatches_delegator_id_id", "dispatches", ["delegator_id", "id"], unique=False)
    op.create_index(
        "ix_dispatches_pending",
        "dispatches",
        ["delegation_id"],
        unique=False,
        sqlite_where=sa.text("outcome = 'PENDING'"),
        postgresql_where=sa.text("outcome = 'PENDING'"),
    )

    op.create_table(
        "idempotency_keys",
        sa.Column("binding_id", Bytewise, nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("dispatch_id", Bytewise, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("binding_id", "key_hash", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)

    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key_check", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.create_table(
        "ledger",
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("pair_id", Bytewise, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("delegation_id", Bytewise, nullable=True),
        sa.Column("dispatch_id", Bytewise, nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("leaf_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "seq", name="pk_ledger"),
        sa.UniqueConstraint("id", name="uq_ledger_id"),
    )
    op.create_index("ix_ledger_dispatch_id", "ledger", ["dispatch_id"], unique=False)
    op.create_index("ix_ledger_pair_id", "ledger", ["pair_id"], unique=False)
    op.create_index(
        "ix_ledger_tenant_id_delegation_id_seq", "ledger", ["tenant_id", "delegation_id", "seq"], unique=False
    )

    op.create_table(
        "ledger_heads",
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_ledger_heads"),
    )
    op.create_table(
        "refusal_counts",
        sa.Column("binding_id", Bytewise, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("binding_id", "code", "minute", name="pk_refusal_counts"),
    )
    op.create_index("ix_refusal_counts_minute", "refusal_counts", ["minute"], unique=False)

    op.create_table(
        "tenants",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("routes_revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("slug", name="uq_tenants_slug"),
    )
    op.create_table(
        "windows",
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("delegation_id", "kind", "starts_at", name="pk_windows"),
    )
    op.create_table(
        "agents",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("configuration", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("trust_score", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_agents_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
    )
    op.create_index("ix_agents_tenant_id_id", "agents", ["tenant_id", "id"], unique=False)

    op.create_table(
        "api_keys",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_api_keys_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"], unique=False)

    op.create_table(
        "upstreams",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("credential_header", sa.Text(), nullable=True),
        sa.Column("sealed_credential", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_upstreams_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_upstreams"),
    )
    op.create_index("ix_upstreams_tenant_id_name", "upstreams", ["tenant_id", "name"], unique=True)

    op.create_table(
        "actions",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("upstream_id", Bytewise, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("cost_units", sa.Integer(), nullable=False),
        sa.Column("response_mode", sa.Text(), nullable=False),
        sa.Column("idempotent", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_actions_tenant_id"),
        sa.ForeignKeyConstraint(["upstream_id"], ["upstreams.id"], name="fk_actions_upstream_id"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
    )
    op.create_index("ix_actions_tenant_id_scope", "actions", ["tenant_id", "scope"], unique=False)
    op.create_index("ix_actions_upstream_id", "actions", ["upstream_id"], unique=False)

    op.create_table(
        "delegations",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("delegator_id", Bytewise, nullable=False),
        sa.Column("delegate_id", Bytewise, nullable=False),
        sa.Column("agent_id", Bytewise, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("acceptance", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("offer_hash", sa.Text(), nullable=True),
        sa.Column("terms_version", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("offered_at", sa.BigInteger(), nullable=False),
        sa.Column("offer_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.Column("accept_key", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_delegations_agent_id"),
        sa.ForeignKeyConstraint(["delegate_id"], ["tenants.id"], name="fk_delegations_delegate_id"),
        sa.ForeignKeyConstraint(["delegator_id"], ["tenants.id"], name="fk_delegations_delegator_id"),
        sa.PrimaryKeyConstraint("id", name="pk_delegations"),
        sa.UniqueConstraint("offer_hash", name="uq_delegations_offer_hash"),
    )
    op.create_index("ix_delegations_agent_id", "delegations", ["agent_id"], unique=False)
    op.create_index("ix_delegations_delegate_id_id", "delegations", ["delegate_id", "id"], unique=False)
    op.create_index("ix_delegations_delegator_id_id", "delegations", ["delegator_id", "id"], unique=False)
    op.create_index(
        "ix_delegations_live",
        "delegations",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("status = 'ACTIVE'"),
        postgresql_where=sa.text("status = 'ACTIVE'"),
    )
    op.create_index(
        "ix_delegations_open",
        "delegations",
        ["offer_expires_at"],
        unique=False,
        sqlite_where=sa.text("status = 'PENDING'"),
        postgresql_where=sa.text("status = 'PENDING'"),
    )
    op.create_index(
        "ix_delegations_outgoing",
        "delegations",
        ["delegator_id"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_delegations_sent",
        "delegations",
        ["delegator_id", "delegate_id", "acceptance", "offered_at"],
        unique=False,
    )

    op.create_table(
        "bindings",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("agent_id", Bytewise, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_bindings_agent_id"),
        sa.ForeignKeyConstraint(["delegation_id"], ["delegations.id"], name="fk_bindings_delegation_id"),
        sa.PrimaryKeyConstraint("id", name="pk_bindings"),
    )
    op.create_index("ix_bindings_agent_id", "bindings", ["agent_id"], unique=False)
    op.create_index("ix_bindings_delegation_id_id", "bindings", ["delegation_id", "id"], unique=False)

    op.create_table(
        "terms",
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("constraints", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["delegation_id"], ["delegations.id"], name="fk_terms_delegation_id"),
        sa.PrimaryKeyConstraint("delegation_id", "version", name="pk_terms"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("binding_id", Bytewise, nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("rotated_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["binding_id"], ["bindings.id"], name="fk_tokens_binding_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_tokens_token_hash"),
    )
    op.create_index("ix_tokens_binding_id", "tokens", ["binding_id"], unique=False)
