"""What is known to go wrong in a project, looked for one by one. Nothing is changed."""
