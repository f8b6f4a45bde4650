"""The job that compares continuously, and alerts on changes."""
