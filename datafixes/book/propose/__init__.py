"""Writes a revision for review from differences."""
