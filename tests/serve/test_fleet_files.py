"""Files and vector stores of `assistants serve --processes 2`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.serve.test_parts import rest
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls
from tests.support.serve.fleet import servers_of, two_processes
from tests.support.stack import Stack
from tests.support.waiting import until

BOTH = {"0", "1"}


@pytest.fixture(scope="module")
def fleet(model_server: ModelServer) -> Iterator[Stack]:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_SANDBOX": "auto",
        "ASSISTANTS_LOG_LEVEL": "debug",
    }
    with two_processes(env) as stack:
        yield stack


@pytest.fixture
def client(fleet: Stack) -> Iterator[openai.OpenAI]:
    with rest(fleet) as client:
        yield client


def upload(client: openai.OpenAI, name: str, content: bytes) -> str:
    return client.files.create(file=(name, content), purpose="assistants").id


async def test_what_one_server_takes_any_gives_out(fleet: Stack, client: openai.OpenAI) -> None:
    contents = {f"{size}.txt": bytes([size % 128]) * size for size in range(100_000, 100_008)}

    def comes_back(name: str) -> bool:
        file_id = upload(client, name, contents[name])
        return client.files.content(file_id).read() == contents[name]

    def by_both() -> bool:
        with ThreadPoolExecutor(len(contents)) as threads:
            assert all(threads.map(comes_back, contents))
        return all(servers_of(fleet, each) == BOTH for each in ("UploadFile", "DownloadFile"))

    await until(by_both)


async def test_a_vector_store_is_searched_on_both(fleet: Stack, client: openai.OpenAI) -> None:
    texts = {"honey": b"Bees make honey from nectar.", "sky": b"The sky is blue."}
    files = {name: upload(client, f"{name}.txt", text) for name, text in texts.items()}
    store = client.vector_stores.create(file_ids=[*files.values()])
    await until(lambda: client.vector_stores.retrieve(store.id).status == "completed")

    def by_both() -> bool:
        found = client.vector_stores.search(store.id, query="What do bees make?")
        assert found.data[0].file_id == files["honey"]
        return servers_of(fleet, "SearchVectorStore") == BOTH

    await until(by_both)


async def test_a_run_waits_for_its_files(client: openai.OpenAI, models: ModelServer) -> None:
    """It comes back through NATS until they are indexed, and finds what is in them."""
    words = " ".join(f"word{number} stands here." for number in range(20_000))
    file_id = upload(client, "long.txt", f"{words} The treasure is in Lyon.".encode())
    ask = Calls(("file_search", {"queries": ["Where is the treasure?"]}))
    model = models.script(ask, Answer("In Lyon."))
    assistant = client.beta.assistants.create(model=model, tools=[{"type": "file_search"}])
    thread = client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": "Where?",
                "attachments": [{"file_id": file_id, "tools": [{"type": "file_search"}]}],
            }
        ]
    )
    runs = client.beta.threads.runs
    run = runs.create(thread_id=thread.id, assistant_id=assistant.id)
    await until(lambda: runs.retrieve(run.id, thread_id=thread.id).status == "completed")
    [result] = [each for each in models.requests(model)[-1]["messages"] if each["role"] == "tool"]
    assert "Lyon" in result["content"]
