"""The checklist after a deploy, with evidence for each line."""
