"""The bench: every case works, on both databases, with both load generators; targets are judged."""

import shutil
import threading
from pathlib import Path

import orjson
import pytest
import typer

import bench.results
from bench import load, run
from bench.__main__ import chosen
from bench.cases import CASES, ON_DEMAND
from bench.load import H2Load, LoadError, PythonDriver, from_logs
from bench.measuring import QUICK, Sizes
from bench.profiler import Profiler
from bench.results import Results
from bench.targets import AIM, CPU, RATIO, TARGETS, Database, Target, Unit, targets
from tests.support.stack import Stack

LOG = "1000000\t200\t2000\n1001000\t200\t3000\n1002000\t200\t1000\n"
PRINTED = "traffic: 1.83KB (1877) total, 216B (216) headers (space savings 0.00%), 27B (27) data\n"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_case_finds_its_figures(database: Database, tmp_path: Path) -> None:
    results = run.run(database, list(CASES), QUICK, load.generator())
    assert results.failures == {}
    assert set(results.rounds) == set(CASES)
    judged = results.judgements()
    assert [each.target for each in judged if each.target.case != "peers"] == targets(
        database, frozenset(CASES) - {"peers"}
    )
    assert all(len(each.rounds) == 1 for each in judged)
    results.write(tmp_path / "results.json")
    written = orjson.loads((tmp_path / "results.json").read_bytes())
    assert set(written["rounds"]) == set(CASES)
    assert len(written["targets"]) == len(judged)
    assert all(case in "\n".join(results.lines()) for case in CASES)


def test_all_targets_are_of_cases() -> None:
    assert {target.case for target in TARGETS} == set(CASES) - {"long-writes"}


def test_profiles_of_what_misses_its_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unheard_of = Target("get-assistant", "of the no-op", RATIO, 1000)
    monkeypatch.setattr(bench.results, "targets", lambda *_: [unheard_of])
    cases = ["get-assistant", "list-20"]
    results = run.run("sqlite", cases, QUICK, PythonDriver(), tmp_path)
    assert results.failures == {}
    (profile,) = tmp_path.iterdir()
    assert profile.name == "sqlite-get-assistant.txt"
    assert "with callees %" in profile.read_text()


def test_a_profile_shows_where_time_goes() -> None:
    profiler = Profiler()
    waiting, over = threading.Event(), threading.Event()
    idle = threading.Thread(target=_wait_without_work, args=(waiting,))
    busy = threading.Thread(target=_compute, args=(over,))
    for thread in (idle, busy):
        thread.start()
    profiler.start()
    while profiler.samples < 20:
        over.wait(0.01)
    text = profiler.stop()
    for event in (waiting, over):
        event.set()
    for thread in (idle, busy):
        thread.join()
    assert "bench/test_bench.py" in text
    assert "_compute" in text
    assert "_wait_without_work" not in text


def _wait_without_work(event: threading.Event) -> None:
    event.wait()


def _compute(over: threading.Event) -> None:
    while not over.is_set():
        pass


@pytest.mark.parametrize(
    ("unit", "value", "median", "missed"),
    [
        (RATIO, 0.20, 0.18, False),
        (RATIO, 0.20, 0.16, True),
        (RATIO, 0.20, 0.90, False),
        (CPU, 1.0, 1.05, False),
        (CPU, 1.0, 1.2, True),
        (CPU, 1.0, 0.1, False),
    ],
)
def test_judging(unit: Unit, value: float, median: float, missed: bool) -> None:
    assert Target("runs", "x", unit, value).missed(median) is missed


def test_medians_are_judged_and_aims_fail_nothing() -> None:
    results = Results("sqlite", Sizes(), "none", ("runs",))
    for value in (0.01, 0.12, 0.13):
        results.add("runs", {"of the no-op": value, "Python of the no-op": 20 * value})
    ratio, cpu = results.judgements()
    assert (ratio.median, ratio.missed) == (0.12, False)
    assert (cpu.median, cpu.fails) == (2.4, False)


def test_a_case_that_fails_has_missed_its_targets() -> None:
    results = Results("postgresql", Sizes(), "none", ("runs", "list-20"))
    results.failures |= {"runs": "LoadError: none", "list-20": "LoadError: none"}
    aim, judged = sorted(results.judgements(), key=lambda each: each.target.case)
    assert (aim.target.judged, aim.missed, aim.fails) == (AIM, True, False)
    assert (judged.missed, judged.fails) == (True, True)


def test_choosing_cases() -> None:
    assert chosen("") == [case for case in CASES if case not in ON_DEMAND]
    assert chosen("search") == ["search-10k", "search-100k"]
    assert chosen("search-1m") == ["search-1m"]
    assert chosen("runs, list-20") == ["list-20", "runs", "runs-one-client"]
    with pytest.raises(typer.BadParameter, match="there is no nothing, only get-assistant"):
        chosen("nothing")


def test_what_h2load_writes() -> None:
    both = from_logs([LOG, LOG], [PRINTED, PRINTED], 6)
    assert both.calls == 6
    assert both.seconds == pytest.approx(0.004)
    assert both.latencies == (0.001, 0.001, 0.002, 0.002, 0.003, 0.003)
    assert both.body_bytes == 54
    with pytest.raises(LoadError, match="3 of 4 calls"):
        from_logs([LOG], [PRINTED], 4)
    with pytest.raises(LoadError, match="2 of 3 calls"):
        from_logs([LOG.replace("200", "503", 1)], [PRINTED], 3)


@pytest.mark.parametrize("generator", [H2Load(), PythonDriver()], ids=lambda each: each.name)
def test_load(generator: load.Generator, server: Stack) -> None:
    if generator.name == load.H2LOAD and not shutil.which(load.H2LOAD):
        pytest.skip("h2load is not installed")
    call = load.http(f"{server.base_url}/threads", {"metadata": {"kind": "bench"}})
    result = generator.run(call, clients=2, calls=4)
    assert result.calls == 4
    assert 0 < result.percentile(50) <= result.percentile(99) <= result.seconds
    assert result.body_bytes > 4 * 100
    messages = (b"", b"")
    call = load.grpc(server.grpc_address, "assistants.v1.ThreadsService/CreateThread", *messages)
    assert generator.run(call, clients=2, calls=4).calls == 4
    with pytest.raises(LoadError):
        generator.run(load.http(f"{server.base_url}/threads/none"), clients=1, calls=1)
