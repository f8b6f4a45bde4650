"""What is risky in revision files, found by reading them: no database, and nothing is imported from them."""
