"""The trading book against its broker: compare, propose, verify after a deploy, watch, alert."""
