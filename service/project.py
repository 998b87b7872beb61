"""Whose objects a call works on."""

PROJECT = "default"
"""The one project, as long as callers have no keys that could name another."""
