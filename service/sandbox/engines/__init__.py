"""The engines: ways to start a session's child, and what encloses it."""
