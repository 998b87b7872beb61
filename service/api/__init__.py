"""The servicers: they unpack and check requests, delegate, and return rows."""
