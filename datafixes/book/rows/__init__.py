"""The rows that say a position is held, from PostgreSQL or through the query Lambda."""
