"""Callbacks: subscriptions that are POSTed to routers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Bytewise = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "callback_subscriptions",
        sa.Column("id", Bytewise, nullable=False),
        sa.Column("tenant_id", Bytewise, nullable=False),
        sa.Column("key_id", Bytewise, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("sealed_verifier", sa.Text(), nullable=False),
        sa.Column("heartbeat_ms", sa.Integer(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.Column("operation_name", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", Bytewise, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_callback_subscriptions_tenant_id"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_callback_subscriptions_key_id"),
        sa.PrimaryKeyConstraint("id", name="pk_callback_subscriptions"),
    )
    op.create_index("ix_callback_subscriptions_boot_id", "callback_subscriptions", ["boot_id"], unique=False)
    op.create_index(
        "ix_callback_subscriptions_tenant_id_subscription_id_url",
        "callback_subscriptions",
        ["tenant_id", "subscription_id", "url"],
        unique=True,
    )
