"""Tests: units, the storage contract on both databases, and the real stack end to end."""
