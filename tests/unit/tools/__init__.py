"""Modules of the server's tools by themselves."""
