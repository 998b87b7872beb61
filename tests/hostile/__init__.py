"""Requests and readers that no decent client sends or is, against the real stack."""
