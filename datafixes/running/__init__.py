"""Runs what a migration asks for, and leaves its traces: in the log, in the ledger, in errors that are one line."""
