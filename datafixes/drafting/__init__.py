"""A fix that is written from what an author wants and what the database holds; there, everything only reads."""
