"""Writes revisions: where a new one goes, and how an author would write it."""
