"""The audit tables and the ledger: their fixed names, and how to read them."""
