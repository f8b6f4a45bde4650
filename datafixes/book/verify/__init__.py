"""The checklist after a deploy: each line green or red, with its evidence."""
