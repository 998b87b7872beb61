"""The REST API, end to end: OpenAI's own client against the real stack, through Envoy."""

import pytest

# So that a failure in these shows what was compared.
pytest.register_assert_rewrite(
    "tests.support.rest.scene", "tests.support.rest.streams", "tests.support.rest.wire"
)
