"""Runs over many files: jobs, the processes and ranks that do them, and reports."""
