"""Models that requests may name, as they are shown."""

from dataclasses import dataclass

from service.types.json_value import Json


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the model server's."""

    id: str
    created: int
    """In unix seconds; 0 where the server does not say."""
    owned_by: str


@dataclass(frozen=True, slots=True)
class Models:
    """All models that there are."""

    data: list[Model]


def to_json(model: Model) -> Json:
    """Returns a Model object."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }


def list_to_json(models: Models) -> Json:
    """Returns a list of Model objects: it has no pages."""
    return {"object": "list", "data": [*map(to_json, models.data)]}


def to_fields(value: Json) -> Json:
    """Returns the fields of a Model in protobuf."""
    return {key: value[key] for key in ("id", "created", "owned_by")}
