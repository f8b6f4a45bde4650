"""Close the seven phantom positions: open in the book, gone at the broker.

Revision ID: 015
Revises: 014
"""

from alembic import op
from datafixes import DataFix, Rows, Update, sql

revision = "015"
down_revision = "014"
branch_labels = None
depends_on = None

fix = DataFix(
    name="close_phantom_positions",
    reason="Shorts that a wrong-symbol close had opened were closed by hand at Alpaca; the book was never told.",
    change=Update(
        "active_positions",
        set={
            "status": "closed",
            "close_reason": "manual_reconciliation",
            # The book's times are UTC, whatever the session's zone.
            "closed_at": sql("now() AT TIME ZONE 'UTC'"),
            "exit_price": sql("entry_price"),  # a neutral exit: the true prices are unknown
            "current_pnl_dollars": 0,
            "current_pnl_percent": 0,
        },
        where="status IN ('open', 'closing')",
    ),
    # An id alone is no proof of identity: the book kept re-creating its phantoms, and the ids moved on.
    rows=Rows(
        key="id",
        identity={"symbol": "coalesce(option_symbol, ticker)"},
        expect={
            13: "NOW",
            16: "QCOM",
            19: "SPY",
            21: "ORCL260213C00155000",
            24: "CRM260227P00200000",
            32: "NOW260220P00110000",
            33: "QCOM260220P00145000",
        },
        # Some may have been closed meanwhile, by the Position Manager or by hand: the log names them, and they stay.
        already="status = 'closed'",
        already_at_most=7,
        ensure="exit_price = entry_price",
    ),
    audit="position_reconciliation_audit",
)


def upgrade() -> None:
    op.apply_datafix(fix)


def downgrade() -> None:
    op.revert_datafix(fix)
