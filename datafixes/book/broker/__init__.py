"""The broker, and what it holds: Alpaca, or a file of positions."""
