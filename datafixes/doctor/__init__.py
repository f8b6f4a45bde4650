"""Looks for known problems in a project, one by one. Nothing is changed."""
