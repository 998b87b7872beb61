"""The services of the API, each declared here and nowhere else.

Servers, health, reflection and the derived REST services (gateway/descriptor.py) follow this table.
envoy.yaml repeats the names, because Envoy runs it as it is; a test compares them.
"""

from collections.abc import Callable, Mapping

from service.api.assistants import AssistantsServicer
from service.api.catalog import Catalog
from service.api.files import FilesServicer
from service.api.messages import MessagesServicer
from service.api.models import ModelsServicer
from service.api.runs import RunsServicer
from service.api.threads import ThreadsServicer
from service.api.uploads import UploadsServicer
from service.api.vector_store_files import VectorStoreFilesServicer
from service.api.vector_stores import VectorStoresServicer
from service.files.library import Library
from service.runner.engine import Engine
from service.settings import Settings
from storage import Storage

SERVICES: Mapping[str, Callable[[Storage, Engine, Settings, Library], object]] = {
    "assistants.v1.AssistantsService": lambda storage, engine, settings, library: (
        AssistantsServicer(storage)
    ),
    "assistants.v1.ThreadsService": lambda storage, engine, settings, library: ThreadsServicer(
        storage, engine
    ),
    "assistants.v1.MessagesService": lambda storage, engine, settings, library: MessagesServicer(
        storage, engine, settings.when_active
    ),
    "assistants.v1.RunsService": lambda storage, engine, settings, library: RunsServicer(
        storage, engine, settings.run_lifetime, settings.when_active
    ),
    "assistants.v1.ModelsService": lambda storage, engine, settings, library: ModelsServicer(
        Catalog(engine.list_models)
    ),
    "assistants.v1.FilesService": lambda storage, engine, settings, library: FilesServicer(
        storage,
        library.blobs,
        settings.max_file_bytes,
        download_every_purpose=settings.download_every_purpose,
    ),
    "assistants.v1.UploadsService": lambda storage, engine, settings, library: UploadsServicer(
        storage,
        library.blobs,
        max_bytes=settings.max_upload_bytes,
        max_part_bytes=settings.max_part_bytes,
    ),
    "assistants.v1.VectorStoresService": lambda storage, engine, settings, library: (
        VectorStoresServicer(storage, library)
    ),
    "assistants.v1.VectorStoreFilesService": lambda storage, engine, settings, library: (
        VectorStoreFilesServicer(storage, library)
    ),
}
"""What makes the servicer of each service, by the service's full name."""


def servicers(
    storage: Storage, engine: Engine, settings: Settings, library: Library
) -> dict[str, object]:
    """Returns a servicer for each service, by its full name."""
    return {name: make(storage, engine, settings, library) for name, make in SERVICES.items()}
