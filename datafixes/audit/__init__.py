"""Reads runs and images back from the database."""
