"""Compiles a declaration to the SQL script that the server receives."""
