"""Webhooks: endpoints, and the deliveries of a ledger's entries to them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")

_PENDING = sa.text("status = 'PENDING'")
_FAILED = sa.text("status = 'FAILED'")


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("sealed_secret", sa.Text(), nullable=False),
        sa.Column("sealed_old_secret", sa.Text(), nullable=True),
        sa.Column("old_secret_until", sa.BigInteger(), nullable=True),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_webhook_endpoints_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index(
        "ix_webhook_endpoints_tenant_id_id", "webhook_endpoints", ["tenant_id", "id"], unique=False
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("endpoint_id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint_id_seq", "webhook_deliveries", ["endpoint_id", "seq"], unique=True
    )
    for name, columns, where in (
        ("due", ["endpoint_id", "due_at"], _PENDING),
        ("failed", ["endpoint_id", "seq"], _FAILED),
    ):
        op.create_index(
            f"ix_webhook_deliveries_{name}",
            "webhook_deliveries",
            columns,
            unique=False,
            sqlite_where=where,
            postgresql_where=where,
        )
