"""The rows of the book, from PostgreSQL or through the query Lambda."""
