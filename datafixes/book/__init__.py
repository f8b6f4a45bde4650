"""The trading book and its broker: compare, propose corrections, verify after a deploy, watch, alert."""
