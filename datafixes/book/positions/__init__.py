"""Positions: their instruments, their numbers, and excluded instruments."""
