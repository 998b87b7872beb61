"""Every method of the API, on both transports: without a key, with a wrong one, with another's.

Whatever a key's project asks for, another project's object is as if it did not exist.
"""

import pytest

from tests.access.conftest import Both, one_of_each
from tests.support.access.cases import CASES, filled, mixes, named
from tests.support.access.keyed import Key
from tests.support.access.transports import METHODS, NOT_FOUND, OK, UNAUTHENTICATED
from tests.support.model_server import ModelServer
from tests.support.stack import Stack

Ids = dict[str, str]

TRANSPORTS = pytest.mark.parametrize("transport", ["grpc", "rest"])
EVERY_METHOD = pytest.mark.parametrize("method", CASES)
READS = {
    method: CASES[method]
    for method in (
        *("GetAssistant", "GetThread", "GetRun"),
        *("GetVectorStore", "GetVectorStoreFile", "GetVectorStoreFileBatch"),
    )
} | {
    method: {key: value for key, value in CASES[method].items() if key not in ("after", "run_id")}
    for method in (
        *("ListAssistants", "ListThreads", "ListMessages", "ListRuns"),
        *("ListVectorStores", "ListVectorStoreFiles"),
    )
}
"""What shows all that a project has."""

MISSING = "You didn't provide an API key."
WRONG = f"sk-{'x' * 43}"
INCORRECT = "Incorrect API key provided: sk-***xx."


@pytest.fixture(scope="module")
def their_ids(keyed: Stack, model_server: ModelServer, theirs: Key) -> Ids:
    """One of each kind, of the first project."""
    return one_of_each(keyed, model_server, theirs)


@pytest.fixture(scope="module")
def own_ids(keyed: Stack, model_server: ModelServer, own: Key) -> Ids:
    """One of each kind, of the second project."""
    return one_of_each(keyed, model_server, own)


@pytest.fixture
def unchanged(both: Both, theirs: Key, their_ids: Ids) -> "object":
    """Asserts that nothing of the first project is changed by a test."""

    def shown() -> list[str]:
        rest = both.by(theirs)["rest"]
        outcomes = [rest(method, filled(case, their_ids)) for method, case in READS.items()]
        assert {outcome.status for outcome in outcomes} == {OK}
        return [outcome.text for outcome in outcomes]

    before = shown()
    yield
    assert shown() == before


def test_every_method_has_a_case() -> None:
    assert CASES.keys() == METHODS.keys()


def test_cases_name_all_that_requests_can() -> None:
    for method, case in CASES.items():
        ids = {field.name for field in METHODS[method].input_type.fields if _is_id(field.name)}
        assert ids <= case.keys(), method


def _is_id(field: str) -> bool:
    return field.endswith("_id") or field == "after"


@TRANSPORTS
@EVERY_METHOD
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, MISSING),
        ({"authorization": "Basic YTpi"}, MISSING),
        ({"authorization": f"Bearer {WRONG}"}, INCORRECT),
        ({"api-key": WRONG}, INCORRECT),
    ],
    ids=["none", "no-bearer", "wrong", "wrong-of-azure"],
)
@pytest.mark.usefixtures("unchanged")
def test_without_a_key_that_is_valid(
    both: Both, their_ids: Ids, transport: str, method: str, headers: dict[str, str], words: str
) -> None:
    outcome = both.of(headers)[transport](method, filled(CASES[method], their_ids))
    assert outcome.status == UNAUTHENTICATED
    assert words in outcome.text


@TRANSPORTS
@EVERY_METHOD
@pytest.mark.usefixtures("unchanged")
def test_with_the_key_of_another_project(
    both: Both, own: Key, their_ids: Ids, own_ids: Ids, transport: str, method: str
) -> None:
    """Some of the ids, or all, are another project's: it is as if there were no such objects."""
    call, case = both.by(own)[transport], CASES[method]
    kinds = named(case)
    for mix in mixes([*kinds]):
        strange = {kind: their_ids[kind] for kind in mix}
        # Next to them in every list, so that cursors differ by nothing.
        unknown = {kind: _neighbour(id) for kind, id in strange.items()}
        outcome = call(method, filled(case, own_ids | strange))
        if any(kinds[kind] for kind in mix):
            assert outcome.status == NOT_FOUND, mix
        text = outcome.text
        for kind, id in strange.items():
            text = text.replace(id, unknown[kind])
        assert not [id for id in their_ids.values() if id in text], mix
        expected = call(method, filled(case, own_ids | unknown))
        assert (outcome.status, text) == (expected.status, expected.text), mix
    if not kinds:
        outcome = call(method, case)
        assert outcome.status == OK
        assert not [id for id in their_ids.values() if id in outcome.text]


def _neighbour(id: str) -> str:
    return id[:-1] + ("0" if id[-1] != "0" else "1")


@TRANSPORTS
@EVERY_METHOD
def test_with_the_project_s_own_key(
    keyed: Stack, models: ModelServer, both: Both, own: Key, transport: str, method: str
) -> None:
    """The same calls do find what is one's own."""
    ids = one_of_each(keyed, models, own)
    assert both.by(own)[transport](method, filled(CASES[method], ids)).status == OK


@TRANSPORTS
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ListAssistants", "assistant"),
        ("ListThreads", "thread"),
        ("ListVectorStores", "store"),
    ],
)
def test_lists_have_what_is_the_project_s_own(
    both: Both, own: Key, their_ids: Ids, own_ids: Ids, transport: str, method: str, kind: str
) -> None:
    # The oldest first: other tests make many.
    outcome = both.by(own)[transport](method, {"limit": 100, "order": "asc"})
    assert own_ids[kind] in outcome.text
    assert their_ids[kind] not in outcome.text
