"""The results of commands as documents, and their formats: terminal, JSON, Markdown, HTML."""
