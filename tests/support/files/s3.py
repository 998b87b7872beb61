"""A real S3-compatible server, from a wheel."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from obstore.store import S3Store

from service.process.child import dying_with_parent

KEY, SECRET = "the-key", "the-secret"
BUCKET = "blobs"
READY_SECONDS = 60.0


class S3Server:
    """SeaweedFS on ports of its own, on the loopback interface."""

    def __init__(self, directory: Path) -> None:
        """Starts it, its data in a directory, and waits until it takes requests."""
        with ExitStack() as stack:
            ports = [stack.enter_context(_bound()).getsockname()[1] for _ in range(8)]
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = ports
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        keys = {"accessKey": KEY, "secretKey": SECRET}
        identity = {"name": "test", "credentials": [keys], "actions": actions}
        config = directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self.endpoint = f"http://127.0.0.1:{s3}"
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            dying_with_parent(
                [
                    str(Path(sys.executable).parent / "weed"),
                    *("server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                    *(f"-master.port={master}", f"-master.port.grpc={master_grpc}"),
                    *("-master.volumeSizeLimitMB=256", "-volume.max=20"),
                    *("-volume.preStopSeconds=0", "-master.telemetry=false"),
                    *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}"),
                    *(f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
                    *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}"),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}"),
                ]
            ),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=directory,
        )
        self._wait(directory / "log")
        store = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        # The bucket is made with the first object.
        store.put("first", b"1")
        store.delete("first")

    @property
    def env(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=5)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        raise AssertionError(f"no S3 server: {log.read_text()[-2000:]}")


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound
