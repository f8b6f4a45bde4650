"""Runs the operations of a migration, and records them: in the log, in the ledger, in one-line errors."""
