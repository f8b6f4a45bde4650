"""From differences to a revision for review."""
