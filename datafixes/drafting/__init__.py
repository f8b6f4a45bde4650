"""Drafts a fix from the author's wishes and the contents of the database, which is only read."""
