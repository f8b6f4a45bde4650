"""Compares the book with the broker: differences, and doubts about them."""
