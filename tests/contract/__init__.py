"""Contracts of ports: a suite each, which every adapter runs."""
