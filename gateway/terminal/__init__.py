"""Commands for a person at a terminal: a conversation, and a demonstration."""
