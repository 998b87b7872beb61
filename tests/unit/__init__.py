"""Modules by themselves: no server and no database."""
