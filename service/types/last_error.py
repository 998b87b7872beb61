"""Why a run or a step failed."""

from collections.abc import Mapping

from service.types.json_value import Json


def to_json(stored: Mapping[str, str] | None) -> Json | None:
    """Returns the code and the message, or None where nothing failed."""
    return None if stored is None else {"code": stored["code"], "message": stored["message"]}
