"""OpenAI's specification is kept; where it is not, docs/compatibility.md says so."""

import pytest

# So that a failure in these shows what was compared.
pytest.register_assert_rewrite(
    "tests.support.compatibility.errors", "tests.support.rest.scene", "tests.support.rest.wire"
)
