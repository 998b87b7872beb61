"""The services of the API, each declared here and nowhere else.

Servers, health, reflection and the derived REST services (gateway/descriptor.py) follow this table.
envoy.yaml repeats the names, because Envoy runs it as it is; a test compares them.
"""

from collections.abc import Callable, Mapping

from service.api.assistants import AssistantsServicer
from service.api.files import FilesServicer
from service.api.messages import MessagesServicer
from service.api.runs import RunsServicer
from service.api.threads import ThreadsServicer
from service.api.uploads import UploadsServicer
from service.files.blobs import BlobStore
from service.runner.engine import Engine
from service.settings import Settings
from storage import Storage

SERVICES: Mapping[str, Callable[[Storage, Engine, Settings, BlobStore], object]] = {
    "assistants.v1.AssistantsService": lambda storage, engine, settings, blobs: AssistantsServicer(
        storage
    ),
    "assistants.v1.ThreadsService": lambda storage, engine, settings, blobs: ThreadsServicer(
        storage, engine
    ),
    "assistants.v1.MessagesService": lambda storage, engine, settings, blobs: MessagesServicer(
        storage, engine, settings.when_active
    ),
    "assistants.v1.RunsService": lambda storage, engine, settings, blobs: RunsServicer(
        storage, engine, settings.run_lifetime, settings.when_active
    ),
    "assistants.v1.FilesService": lambda storage, engine, settings, blobs: FilesServicer(
        storage, blobs, settings.max_file_bytes
    ),
    "assistants.v1.UploadsService": lambda storage, engine, settings, blobs: UploadsServicer(
        storage,
        blobs,
        max_bytes=settings.max_upload_bytes,
        max_part_bytes=settings.max_part_bytes,
    ),
}
"""What makes the servicer of each service, by the service's full name."""


def servicers(
    storage: Storage, engine: Engine, settings: Settings, blobs: BlobStore
) -> dict[str, object]:
    """Returns a servicer for each service, by its full name."""
    return {name: make(storage, engine, settings, blobs) for name, make in SERVICES.items()}
