"""Envoy, its Lua filter and the REST handlers, asked over plain HTTP."""
