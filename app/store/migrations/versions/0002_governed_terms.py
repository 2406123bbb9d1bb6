"""Governed terms: proposals, suspensions, sandboxes, guardrails, costs, idempotent creations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")

_LIVE = sa.text("status IN ('ACTIVE', 'SUSPENDED')")


def upgrade() -> None:
    for name in (
        "sandbox_base_url",
        "sandbox_credential_header",
        "sealed_sandbox_credential",
        "guardrail_url",
    ):
        op.add_column("upstreams", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("actions", sa.Column("request_schema", sa.Text(), nullable=True))
    op.add_column("windows", sa.Column("exhausted_at", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("windows") as windows:  # costs may add up to more than 2^31
        windows.alter_column("used", type_=sa.BigInteger(), existing_nullable=False)
    # With a default: a release that does not know of it goes on writing dispatches meanwhile.
    op.add_column("dispatches", sa.Column("cost_units", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("terms", sa.Column("in_force_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE terms SET in_force_at = created_at")

    op.create_table(
        "suspensions",
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=False),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["delegation_id"], ["delegations.id"], name="fk_suspensions_delegation_id"),
        sa.PrimaryKeyConstraint("delegation_id", "suspended_at", name="pk_suspensions"),
    )
    op.create_table(
        "scope_uses",
        sa.Column("delegation_id", Bytewise, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("delegation_id", "scope", name="pk_scope_uses"),
    )
    op.execute(
        "INSERT INTO scope_uses (delegation_id, scope, last_used_at) "
        "SELECT delegation_id, scope, max(requested_at) FROM dispatches "
        "WHERE outcome <> 'REFUSED' AND scope IS NOT NULL GROUP BY delegation_id, scope"
    )
    op.create_table(
        "creations",
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_hash", name="pk_creations"),
    )
    op.create_index("ix_creations_created_at", "creations", ["created_at"], unique=False)

    # Whatever has not ended expires by the clock, also what is suspended.
    op.drop_index("ix_delegations_live", "delegations")
    op.create_index(
        "ix_delegations_live",
        "delegations",
        ["expires_at"],
        unique=False,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
