"""The command ``datafixes``: one file per command."""
