"""Repositories and transactions, on SQLite and PostgreSQL."""
