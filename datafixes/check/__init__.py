"""Finds risks in revision files by reading them, without a database and without importing them."""
