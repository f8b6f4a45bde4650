"""The audit table for active_positions, and the ledger of data fixes.

Revision ID: 014
Revises: 013
"""

from alembic import op

revision = "014"
down_revision = "013"
branch_labels = None
depends_on = None

AUDIT = "position_reconciliation_audit"


def upgrade() -> None:
    op.create_audit_table("active_positions", name=AUDIT)


def downgrade() -> None:
    # Refuses while copies are in it; alembic -x discard=position_reconciliation_audit throws them away.
    op.drop_audit_table(AUDIT)
