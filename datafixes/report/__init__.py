"""What a command has found, and the forms in which it can be read: terminal, JSON, Markdown, HTML."""
