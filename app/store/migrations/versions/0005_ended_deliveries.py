"""Deliveries that have ended, by when they did: they are dropped some time later."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ENDED = sa.text("status <> 'PENDING'")


def upgrade() -> None:
    op.create_index(
        "ix_webhook_deliveries_ended",
        "webhook_deliveries",
        ["due_at"],
        unique=False,
        sqlite_where=_ENDED,
        postgresql_where=_ENDED,
    )
