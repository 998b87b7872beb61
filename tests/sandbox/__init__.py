"""Where the model's Python runs, and that nothing gets out of there."""
