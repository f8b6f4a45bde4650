"""The job that keeps looking, and says what is new."""
