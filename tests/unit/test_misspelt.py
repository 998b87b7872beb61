import pytest

from service.misspelt import misspelt
from service.settings import Settings


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ASSISTANTS_MODEL_URL", "ASSISTANTS_MODEL_BASE_URL"),
        ("ASSISTANTS_LOGLEVEL", "ASSISTANTS_LOG_LEVEL"),
        ("ASSISTANTS_HTTP_PORT", "ASSISTANTS_HTTP_ADDRESS"),
        ("ASSISTANTS_RUN_LIFTIME", "ASSISTANTS_RUN_LIFETIME"),
    ],
)
def test_the_nearest_setting_is_named(name: str, nearest: str) -> None:
    assert list(misspelt(["PATH", name])) == [(name, nearest)]


def test_settings_are_known_in_any_case() -> None:
    names = [f"ASSISTANTS_{name.upper()}" for name in Settings.model_fields]
    assert list(misspelt([*names, *map(str.lower, names), "ASSISTANTS_API_KEY"])) == []


def test_what_kubernetes_sets_is_no_setting() -> None:
    port = ["PORT", "PORT_8080_TCP", "PORT_8080_TCP_PROTO", "PORT_8080_TCP_PORT"]
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", *port, "PORT_8080_TCP_ADDR"]
    for service in ("ASSISTANTS", "ASSISTANTS_HEADLESS"):
        assert list(misspelt(f"{service}_{name}" for name in names)) == []
    # Only of a service that there is.
    assert list(misspelt(["ASSISTANTS_HTTP_PORT"])) != []
