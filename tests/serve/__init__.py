"""`assistants serve` and its processes, as an operator starts them."""
