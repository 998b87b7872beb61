"""Other servers of the same kind, as far as the package index has them: see README.md."""
