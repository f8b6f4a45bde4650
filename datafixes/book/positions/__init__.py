"""What a position is: its instrument, its numbers, and the instruments that are left out."""
