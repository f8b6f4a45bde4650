"""Reading back what the runs wrote."""
