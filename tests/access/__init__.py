import pytest

pytest.register_assert_rewrite("tests.support.access", "tests.support.rest.scene")
