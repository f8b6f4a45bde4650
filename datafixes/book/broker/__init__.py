"""The broker and its positions: Alpaca, or a file of positions."""
