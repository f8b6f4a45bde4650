"""The results of the book's commands, for people and for programs."""
