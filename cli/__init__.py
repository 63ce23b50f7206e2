"""The `usher` command: one file per verb."""
