"""Declarations of fixes: plain data, checked as far as possible without a database."""
