"""Backing the store up into a file, and restoring it, with PostgreSQL's own tools."""
