"""Writes revisions: their place in the chain, and their text."""
