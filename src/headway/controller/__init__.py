"""The server: the shell around the scheduler's core."""
