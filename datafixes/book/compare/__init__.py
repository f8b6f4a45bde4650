"""The book against the broker: what differs, and what is in doubt."""
