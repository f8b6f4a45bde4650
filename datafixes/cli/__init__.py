"""The command ``datafixes``: one file a command."""
