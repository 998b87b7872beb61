"""OpenAI's types: how each is checked, stored, and shown in JSON and in protobuf."""
