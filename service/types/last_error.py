"""Why a run or a step failed."""

from collections.abc import Mapping

from assistants.v1 import run_objects_pb2

from service.types.json_value import Json


def to_json(stored: Mapping[str, str] | None) -> Json | None:
    """Returns the code and the message, or None where nothing failed."""
    return None if stored is None else {"code": stored["code"], "message": stored["message"]}


def to_proto(value: Mapping[str, str] | None) -> run_objects_pb2.Run.LastError | None:
    """Returns the same in protobuf."""
    if value is None:
        return None
    return run_objects_pb2.Run.LastError(code=value["code"], message=value["message"])
