"""The REST edge: Envoy, the derived descriptor, and OpenAI's JSON and SSE."""
