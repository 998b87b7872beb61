"""ModelsService: what the model server offers."""

from assistants.v1 import models_pb2

from service.api.catalog import Catalog
from service.calls import Caller
from service.types import checks
from service.types.models import Model, Models


class ModelsServicer:
    """The methods of ModelsService."""

    def __init__(self, catalog: Catalog) -> None:
        """Answers from `catalog`."""
        self._catalog = catalog

    async def ListModels(self, request: models_pb2.ListModelsRequest, caller: Caller) -> Models:
        """Returns all models."""
        return Models(await self._catalog.list())

    async def GetModel(self, request: models_pb2.GetModelRequest, caller: Caller) -> Model:
        """Returns a model."""
        return await self._catalog.get(checks.required_text("model", request.model, 512))
