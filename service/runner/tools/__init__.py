"""Tools that a model may call: the port, the registry, and what is executed of them."""
