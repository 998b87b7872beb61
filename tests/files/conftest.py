"""Fixtures of the tests of files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files.s3 import S3Server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server, one per worker."""
    with tempfile.TemporaryDirectory(prefix="s3-") as directory:
        server = S3Server(Path(directory))
        yield server
        server.stop()
