"""Chat models: the client of any OpenAI-compatible endpoint, and the embedded model's server."""
