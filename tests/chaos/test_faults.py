"""One fault after the other happens to a service under a constant load of runs."""

from collections.abc import Iterator

import pytest

from tests.support.chaos.cases import CASES, Case
from tests.support.chaos.run import Chaos, chaos


@pytest.fixture(scope="module")
def service() -> Iterator[Chaos]:
    """A service under load."""
    with chaos() as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_fault(service: Chaos, case: Case) -> None:
    print(f"\n{await service.suffer(case)}")
