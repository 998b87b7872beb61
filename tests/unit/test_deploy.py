"""deploy/ starts what the commands and settings are, and shows the metrics that there are."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

import service
from gateway.cli import app
from gateway.envoy import configuration
from service.settings import Settings
from tests.serve.test_metrics import declared, names_of

ROOT: Final = Path(service.__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PARTS: Final = {
    name: each for name, each in COMPOSE["services"].items() if each["image"] == "assistants"
}
OBJECTS: Final[list[dict[str, Any]]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
)
NAMES: Final = {f"ASSISTANTS_{name}".upper() for name in Settings.model_fields}
BOARD: Final = json.loads((DEPLOY / "grafana.json").read_text())
VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
IMAGE: Final = dict(re.findall(r"\b(ASSISTANTS_\w+)=(\S+)", DOCKERFILE))


def objects(kind: str) -> Iterator[dict[str, Any]]:
    return (each for each in OBJECTS if each["kind"] == kind)


def pods() -> list[tuple[str, dict[str, Any]]]:
    return [
        (each["metadata"]["name"], each["spec"]["template"]["spec"])
        for kind in ("Deployment", "Job")
        for each in objects(kind)
    ]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Returns what a container's environment is, its secrets too."""
    [values] = objects("ConfigMap")
    [secrets] = objects("Secret")
    known = {"configMapRef": values["data"], "secretRef": secrets["stringData"]}
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        [(kind, reference)] = source.items()
        assert reference == {"name": "assistants"}
        found |= known[kind]
    for each in container.get("env", []):
        key = each.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
        found[each["name"]] = each["value"] if key is None else secrets["stringData"][key]
    return found


def check_command(arguments: list[str]) -> None:
    """Fails if there is no such command, or if it does not take these options."""
    commands: Any = typer.main.get_command(app)
    commands.commands[arguments[0]].make_context(arguments[0], arguments[1:])


def load(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    assert {name for name in values if not name.startswith("AWS_")} <= NAMES
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in (IMAGE | values).items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_compose(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    part = PARTS[name]
    check_command(part["command"])
    given = {
        # What the operator sets is long enough to be a key, and a part of a URL.
        variable: re.sub(r"\$\{(\w+):[?-]\}", _chosen, value)
        for variable, value in part["environment"].items()
    }
    settings = load(monkeypatch, given)
    assert float(part["stop_grace_period"].removesuffix("s")) > settings.shutdown_grace
    if name == "gateway":
        assert [each.rpartition(":")[0] for each in settings.grpc_upstreams] == ["server"]
        settings = settings.model_copy(update={"data_dir": tmp_path})
        assert "STRICT_DNS" in str(configuration(settings))


def _chosen(found: re.Match[str]) -> str:
    return "http://model/v1" if found[1].endswith("_URL") else "x" * 24


@pytest.mark.parametrize(("name", "pod"), pods())
def test_pods(name: str, pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    [container] = pod["containers"]
    check_command(container["args"])
    settings = load(monkeypatch, environment(container))
    assert container["image"] == f"assistants:{VERSION}"
    # Kubernetes' own variables begin like settings, where a service has the name.
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsUser"] == int(re.findall(r"USER (\d+)", DOCKERFILE)[0])
    if name != "assistants-migrate":
        assert pod["terminationGracePeriodSeconds"] > settings.shutdown_grace + 10
        # Its directory is empty with each pod: nothing in it may be the only copy.
        assert settings.database_url is not None or "gateway" in name
        assert settings.blobs_url is not None
    addresses = {
        "http": settings.http_address,
        "grpc": settings.grpc_address,
        "metrics": settings.metrics_address,
    }
    for port in container.get("ports", []):
        address = addresses[port["name"]]
        assert address is not None
        assert int(address.rpartition(":")[2]) == port["containerPort"]


def test_services_find_their_pods() -> None:
    pods = {each["metadata"]["name"]: each["spec"]["template"] for each in objects("Deployment")}
    for kind in ("Service", "PodDisruptionBudget"):
        for each in objects(kind):
            selector = each["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            [pod] = [pod for pod in pods.values() if pod["metadata"]["labels"] == wanted]
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in each["spec"].get("ports", [])} <= ports
    [upstreams] = environment(pods["assistants-gateway"]["spec"]["containers"][0])[
        "ASSISTANTS_GRPC_UPSTREAMS"
    ].split(",")
    [servers] = [each for each in objects("Service") if each["spec"].get("clusterIP") == "None"]
    [port] = servers["spec"]["ports"]
    assert upstreams == f"{servers['metadata']['name']}:{port['port']}"


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    expressions = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    shown = {name for each in expressions for name in re.findall(r"\bassistants_\w+", each)}
    for metric in declared():
        names = names_of(metric)
        assert shown.intersection(names), names
        shown.difference_update(names)
    assert shown == set()
