"""Exactness: what the contract says is what is sent, and where it is not, the documents say so."""

import pytest

# So that what these find tells what was compared.
pytest.register_assert_rewrite("tests.exactness.errors", "tests.rest.scene", "tests.rest.wire")
