"""Events of runs: the bus, what is published on it, and how streams read it."""
