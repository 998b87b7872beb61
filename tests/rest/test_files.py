"""Files and uploads, as OpenAI's client has them."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx2
import openai
import pytest
from assistants.v1 import files_pb2

from tests.support.compatibility.errors import refusal
from tests.support.grpc.client import connect
from tests.support.model_server import ModelServer
from tests.support.rest.scene import expect
from tests.support.rest.wire import Wire
from tests.support.stack import Stack, serving
from tests.support.waiting import SECONDS

PURPOSES: list[Any] = ["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
TEXT = b"Some text.\n"
NAMES = [
    "a.txt",
    "a b.txt",
    'a "quote".txt',
    "你好.txt",
    "../../etc/passwd",
    "/home/me/notes.txt",
    "C:\\notes.txt",
    "..",
    "a;b=c.txt",
    "%22.txt",
    "😀" * 100,
    "x" * 300,
    "tab\there",
]


@pytest.fixture
def http(server: Stack) -> httpx2.Client:
    return httpx2.Client(base_url=server.base_url, timeout=SECONDS)


def create(client: openai.OpenAI, content: bytes = TEXT, **given: Any) -> Any:
    return client.files.create(**{"file": ("a.txt", content), "purpose": "assistants"} | given)


def stored(server: Stack) -> set[str]:
    """The blobs on the disk."""
    folder = Path(server.env["ASSISTANTS_DATA_DIR"]) / "files"
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file(client: openai.OpenAI, server: Stack) -> None:
    before = stored(server)
    file = create(client)
    assert (file.bytes, file.filename, file.purpose) == (len(TEXT), "a.txt", "assistants")
    assert (file.status, file.expires_at) == ("processed", None)
    assert abs(file.created_at - time.time()) < SECONDS
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    assert client.files.content(file.id).read() == TEXT
    assert len(stored(server) - before) == 1
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    assert stored(server) == before
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}") as error:
            call(file.id)
        assert (error.value.param, error.value.code) == ("id", None)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose(client: openai.OpenAI, purpose: Any) -> None:
    file = create(client, purpose=purpose)
    assert file.purpose == purpose
    assert client.files.content(file.id).read() == TEXT
    assert file.id in [each.id for each in client.files.list(purpose=purpose)]
    # Batches are kept for 30 days.
    assert file.expires_at == (file.created_at + 2_592_000 if purpose == "batch" else None)


def test_downloads_of_some_purposes(model_server: ModelServer) -> None:
    """Where the hosted service's refusal is wanted back."""
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_DOWNLOAD_EVERY_PURPOSE": "false",
    }
    with (
        serving(env) as stack,
        openai.OpenAI(api_key="x", base_url=stack.base_url, max_retries=0) as client,
        connect(stack.grpc_address) as stubs,
    ):
        for purpose in PURPOSES:
            file_id = create(client, purpose=purpose).id
            request = files_pb2.DownloadFileRequest(file_id=file_id)
            if purpose not in ("assistants", "user_data"):
                assert client.files.content(file_id).read() == TEXT
                assert b"".join(each.data for each in stubs.files.DownloadFile(request)) == TEXT
                continue
            message = f"Not allowed to download files of purpose: {purpose}"
            call: Any = lambda client, id=file_id: client.files.content(id)  # noqa: E731
            expect(client, call, 400, message, None, None)
            with pytest.raises(grpc.RpcError) as error:
                list(stubs.files.DownloadFile(request))
            refused = refusal(error.value)
            assert (refused.status, refused.message) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                message,
            )
            assert refused.reason == "malformed"
            assert client.files.retrieve(file_id).purpose == purpose


@pytest.mark.parametrize("name", NAMES)
def test_names_come_back_as_given(client: openai.OpenAI, http: httpx2.Client, name: str) -> None:
    file = create(client, file=(name, TEXT))
    # This client writes a quote as browsers do: who writes these three letters means one. A tab
    # is nothing that browsers escape.
    assert file.filename == name.replace("%22", '"').replace("\t", "%09")
    answer = http.get(f"/files/{file.id}/content")
    assert answer.content == TEXT
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith('attachment; filename="') and disposition.isascii()
    plain = disposition.removeprefix('attachment; filename="').partition('"')[0]
    assert "\\" not in plain and len(plain) == len(file.filename)
    if file.filename not in ("", plain):
        encoded = disposition.partition("filename*=UTF-8''")[2]
        assert httpx2.URL(f"http://x/?q={encoded}").params["q"] == file.filename


def test_a_name_that_is_encoded(http: httpx2.Client) -> None:
    """As .NET's client and others write what is not ASCII."""
    head = 'Content-Disposition: form-data; name="file"; filename="=?utf-8?B?w7w=?="; '
    body = (
        f"--b\r\n{head}filename*=utf-8''%C3%BC.txt\r\n\r\nx\r\n--b\r\n"
        'Content-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--b--\r\n'
    )
    kind = 'multipart/form-data; boundary="b"'
    answer = http.post("/files", content=body.encode(), headers={"content-type": kind})
    assert answer.json()["filename"] == "ü.txt"


def test_parts_in_any_order(http: httpx2.Client) -> None:
    file = 'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Type:\r\n\r\nx'
    purpose = 'Content-Disposition: form-data; name="purpose"\r\n\r\nvision'
    seconds = 'Content-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n3600'
    anchor = 'Content-Disposition: form-data; name="expires_after[anchor]"\r\n\r\ncreated_at'
    for parts in ([file, purpose, seconds, anchor], [anchor, purpose, file, seconds]):
        body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--"
        for content in (body.encode(), iter([body[:9].encode(), body[9:].encode()])):
            kind = {"content-type": "multipart/form-data; boundary=b"}
            found = http.post("/files", content=content, headers=kind).json()
            assert (found["bytes"], found["purpose"]) == (1, "vision")
            assert found["expires_at"] == found["created_at"] + 3600


def test_expiry(client: openai.OpenAI) -> None:
    for seconds in (3600, 2_592_000):
        after: Any = {"anchor": "created_at", "seconds": seconds}
        file = create(client, expires_after=after)
        assert file.expires_at == file.created_at + seconds
    for wrong, code in (
        ({"anchor": "created_at", "seconds": 3599}, "integer_below_min_value"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "integer_above_max_value"),
        ({"anchor": "last_active_at", "seconds": 3600}, "invalid_value"),
        ({"anchor": "created_at"}, "missing_required_parameter"),
        ({"seconds": 3600}, "missing_required_parameter"),
        ({"anchor": "created_at", "seconds": "soon"}, "invalid_type"),
        ({"anchor": "created_at", "seconds": 3600, "more": 1}, "unknown_parameter"),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            create(client, expires_after=wrong)
        assert error.value.code == code, wrong


def test_lists(client: openai.OpenAI) -> None:
    files = [create(client, purpose=purpose).id for purpose in ("evals", "vision", "evals")]
    listed = [each.id for each in client.files.list()]
    assert listed[:3] == files[::-1]
    page = client.files.list(purpose="evals", limit=1)
    assert [each.id for each in page.data] == [files[2]] and page.has_more
    assert [each.id for each in page.get_next_page().data] == [files[0]]
    assert [each.id for each in client.files.list(order="asc", after=files[0])][:2] == files[1:]
    assert client.files.list(purpose="nothing").data == []
    for wrong in ({"limit": 10_001}, {"limit": 0}, {"order": "up"}, {"after": "file-x"}):
        with pytest.raises(openai.BadRequestError):
            client.files.list(**wrong)


RANGES = [
    ("bytes=0-3", 206, b"Some"),
    ("bytes=5-", 206, b"text.\n"),
    ("bytes=-6", 206, b"text.\n"),
    ("bytes=-600", 206, TEXT),
    ("bytes=0-600", 206, TEXT),
    ("bytes=0-0", 206, b"S"),
    ("bytes=11-", 416, None),
    ("bytes=600-700", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=3-1", 200, TEXT),
    ("bytes=-", 200, TEXT),
    ("bytes=0-1,3-4", 200, TEXT),
    ("lines=0-1", 200, TEXT),
    ("bytes=" + "9" * 50 + "-", 200, TEXT),
]


@pytest.mark.parametrize(("asked", "status", "expected"), RANGES)
def test_ranges(
    client: openai.OpenAI, http: httpx2.Client, asked: str, status: int, expected: bytes | None
) -> None:
    path = f"/files/{create(client).id}/content"
    answer = http.get(path, headers={"range": asked})
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("x-edge")]
    if expected is None:
        assert answer.headers["content-range"] == f"bytes */{len(TEXT)}"
        assert answer.json()["error"]["type"] == "invalid_request_error"
        return
    assert answer.content == expected
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(expected))
    assert answer.headers["accept-ranges"] == "bytes"
    if status == 206:
        start, _, size = answer.headers["content-range"].removeprefix("bytes ").partition("-")
        assert TEXT[int(start) :].startswith(expected) and size.endswith(f"/{len(TEXT)}")
    tag = answer.headers["etag"]
    again = http.get(path, headers={"range": "bytes=0-3", "if-range": tag})
    assert (again.status_code, again.content) == (206, b"Some")
    other = http.get(path, headers={"range": "bytes=0-3", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, TEXT)


def test_an_empty_file(client: openai.OpenAI, http: httpx2.Client) -> None:
    file = create(client, b"")
    assert file.bytes == 0
    assert client.files.content(file.id).read() == b""
    assert http.get(f"/files/{file.id}/content", headers={"range": "bytes=0-"}).status_code == 416


def test_every_byte_of_a_larger_one(client: openai.OpenAI) -> None:
    content = os.urandom(5_000_003)
    file = create(client, content)
    assert client.files.content(file.id).read() == content
    with client.files.with_streaming_response.content(file.id) as answer:
        assert b"".join(answer.iter_bytes(70_001)) == content


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    (
        {"files": {"file": ("a", b"x")}, "data": {"purpose": "x"}},
        "'x' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals']"
        " - 'purpose'",
        "purpose",
    ),
    ({"files": {"file": ("a", b"x")}}, "'purpose' is a required property", None),
    ({"files": {"purpose": (None, b"vision")}}, "'file' is a required property", None),
    (
        {"files": {"purpose": (None, b"vision"), "file": (None, b"x")}},
        "'file' is a required property",
        None,
    ),
    (
        {"files": {"file": ("a", b"x")}, "data": {"purpose": "vision", "more": "x"}},
        "Unknown parameter: 'more'.",
        "more",
    ),
    (
        {"json": {"purpose": "vision"}},
        "Invalid Content-Type header (application/json), expected multipart/form-data.",
        None,
    ),
]


@pytest.mark.parametrize(("given", "message", "param"), REFUSED)
def test_refusals(
    server: Stack, http: httpx2.Client, given: dict[str, Any], message: str, param: str | None
) -> None:
    before = stored(server)
    answer = http.post("/files", **given)
    error = answer.json()["error"]
    assert (answer.status_code, error["message"], error["param"]) == (400, message, param)
    assert stored(server) == before


def test_ids_of_another_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="an ID that begins with 'file'") as error:
        client.files.retrieve("vs_1")
    assert (error.value.param, error.value.code) == ("file_id", "invalid_value")
    with pytest.raises(openai.BadRequestError, match="letters, numbers, underscores, or dashes"):
        client.files.retrieve("file x")
    with pytest.raises(openai.BadRequestError, match="an ID that begins with 'upload'"):
        client.uploads.cancel("file-1")


def begin(client: openai.OpenAI, content: bytes, **given: Any) -> Any:
    values: dict[str, Any] = {"filename": "a.bin", "mime_type": "text/plain"}
    values |= {"purpose": "assistants", "bytes": len(content)}
    return client.uploads.create(**values | given)


def test_an_upload(client: openai.OpenAI, wire: Wire) -> None:
    content = b"hello world"
    upload = begin(client, content)
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
    assert "file" not in wire.last.body
    with ThreadPoolExecutor(2) as threads:
        add = client.uploads.parts.create
        second, first = threads.map(lambda data: add(upload.id, data=data), (b" world", b"hello"))
    extra = add(upload.id, data=b"not in it")
    assert (extra.upload_id, extra.object) == (upload.id, "upload.part")
    digest = hashlib.md5(content).hexdigest().upper()
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=digest)
    assert done.status == "completed" and done.file is not None
    assert (done.file.bytes, done.file.created_at) == (11, upload.created_at)
    assert client.files.content(done.file.id).read() == content
    assert client.files.retrieve(done.file.id) == done.file
    for call in (
        lambda: client.uploads.cancel(upload.id),
        lambda: client.uploads.complete(upload.id, part_ids=[first.id]),
        lambda: add(upload.id, data=b"x"),
    ):
        with pytest.raises(openai.BadRequestError, match=f"Upload {upload.id} is completed."):
            call()


def test_an_upload_that_is_cancelled(client: openai.OpenAI, server: Stack) -> None:
    before = stored(server)
    upload = begin(client, b"hello")
    client.uploads.parts.create(upload.id, data=b"hello")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert stored(server) == before
    with pytest.raises(openai.BadRequestError, match=f"Upload {upload.id} is cancelled."):
        client.uploads.cancel(upload.id)


def test_uploads_that_do_not_fit(client: openai.OpenAI) -> None:
    upload = begin(client, b"hello")
    part = client.uploads.parts.create(upload.id, data=b"hell")
    complete = client.uploads.complete
    with pytest.raises(openai.BadRequestError, match=r"Expected 5 bytes, but the parts have 4."):
        complete(upload.id, part_ids=[part.id])
    other = client.uploads.parts.create(upload.id, data=b"o")
    with pytest.raises(openai.BadRequestError, match=r"The md5 of the parts does not match."):
        complete(upload.id, part_ids=[part.id, other.id], md5="0" * 32)
    with pytest.raises(openai.BadRequestError, match="is there twice"):
        complete(upload.id, part_ids=[part.id, part.id])
    with pytest.raises(openai.NotFoundError, match=r"No part found with id 'part_x'."):
        complete(upload.id, part_ids=["part_x"])
    with pytest.raises(openai.NotFoundError, match=r"No upload found with id 'upload_x'."):
        complete("upload_x", part_ids=[part.id])
    with pytest.raises(openai.NotFoundError, match=r"No upload found with id 'upload_x'."):
        client.uploads.parts.create("upload_x", data=b"x")
    # Nothing of that has ended it.
    assert complete(upload.id, part_ids=[part.id, other.id]).status == "completed"


def test_uploads_that_are_refused(client: openai.OpenAI) -> None:
    for given, code in (
        ({"bytes": 2**33 + 1}, "integer_above_max_value"),
        ({"bytes": -1}, "integer_below_min_value"),
        ({"purpose": "x"}, None),
        ({"filename": ""}, "missing_required_parameter"),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            begin(client, b"x", **given)
        assert error.value.code == code


def test_the_chunked_helper(client: openai.OpenAI, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="application/pdf", purpose="assistants", part_size=70_000
    )
    assert done.file is not None and done.file.filename == "a.bin"
    assert client.files.content(done.file.id).read() == content
    inside = client.files.with_raw_response.content(
        done.file.id, extra_headers={"range": "bytes=69990-140010"}
    )
    assert inside.content == content[69990:140011]
    client.files.delete(done.file.id)


def test_too_large(server: Stack, model_server: Any) -> None:
    env = {
        "ASSISTANTS_MODEL_BASE_URL": model_server.base_url,
        "ASSISTANTS_MAX_FILE_BYTES": str(2**20),
        "ASSISTANTS_MAX_PART_BYTES": str(2**19),
    }
    with Stack(env) as stack, openai.OpenAI(api_key="x", base_url=stack.start().base_url) as client:
        kept = create(client, b"x" * 2**20)
        assert kept.bytes == 2**20
        before = stored(stack)
        for size in (2**20 + 1, 50 * 2**20):
            with pytest.raises(openai.APIStatusError, match=r"File is too large.") as error:
                create(client, b"x" * size)
            assert (error.value.status_code, error.value.param) == (413, "file")
            assert "Maximum size is 1048576 bytes." in error.value.message
        upload = begin(client, b"x" * 2**20)
        with pytest.raises(openai.APIStatusError) as error:
            client.uploads.parts.create(upload.id, data=b"x" * (2**19 + 1))
        assert (error.value.status_code, error.value.param) == (413, "data")
        assert stored(stack) == before
        # One that comes in parts may be larger, but not to be indexed.
        pieces = [b"x" * 2**19, b"x" * 2**19, b"x"]
        upload = begin(client, b"".join(pieces), filename="a.txt")
        parts = [client.uploads.parts.create(upload.id, data=each).id for each in pieces]
        file = client.uploads.complete(upload.id, part_ids=parts).file
        assert file is not None
        store = client.vector_stores.create()
        entry = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
        assert entry.last_error is not None
        assert entry.last_error.message.endswith("because it is too large.")
        # A file outlives its server.
        assert stack.terminate() == 0
        stack.start()
        assert client.files.content(kept.id).read() == b"x" * 2**20


@pytest.mark.parametrize("left", [0, 100_000, 3_000_000])
def test_a_download_that_breaks_off(client: openai.OpenAI, server: Stack, left: int) -> None:
    """A client neither takes it for the whole nor waits for more."""
    before = stored(server)
    file = create(client, b"x" * 5_000_000)
    [key] = stored(server) - before
    [path] = Path(server.env["ASSISTANTS_DATA_DIR"]).rglob(key)
    os.truncate(path, left)
    with (
        httpx2.Client(timeout=SECONDS) as http,
        pytest.raises((httpx2.RemoteProtocolError, httpx2.HTTPStatusError)),
    ):
        http.get(f"{server.base_url}/files/{file.id}/content").raise_for_status()
    client.files.delete(file.id)
