"""Tests in rooms, a question each: docs/architecture.md lists them."""
