"""What an upgrade or downgrade will do to which rows, found by doing it and keeping nothing."""
