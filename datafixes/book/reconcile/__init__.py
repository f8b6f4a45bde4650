"""The book against the broker: what differs, and what may be proposed about it."""
