"""Finds what an upgrade or downgrade will do to which rows, by running it in a transaction that is rolled back."""
