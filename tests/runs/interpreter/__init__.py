"""Runs whose models call the code interpreter."""
