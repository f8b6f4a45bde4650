"""What the commands of the book found, for people and for programs."""
