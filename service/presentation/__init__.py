"""How answers look: OpenAI's JSON, made of rows, and protobuf, made of that JSON."""
