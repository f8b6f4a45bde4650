"""What the author of a fix says: plain data, checked as far as it can be without a database."""
