"""OpenAI's clients, unmodified, each in an environment of its own, against the running stack."""
