"""The REST face, end to end: OpenAI's own client against the real stack, through Envoy."""

import pytest

# So that what these find tells what was compared.
pytest.register_assert_rewrite("tests.rest.scene", "tests.rest.streams", "tests.rest.wire")
