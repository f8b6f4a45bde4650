"""From a declaration to the text that the server receives."""
