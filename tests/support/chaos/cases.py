"""The faults: what is done to a fleet under load, and what must be so meanwhile.

Each returns the time, by the monotonic clock, from which every run must end that was open then.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import grpc
from assistants.v1 import runs_pb2

from tests.serve.test_code_interpreter import ended, logs, python, start_run
from tests.serve.test_database_away import health, status
from tests.serve.test_parts import rest
from tests.serve.test_servers_on_nats import healthy
from tests.support.chaos.fleet import Fleet, Member
from tests.support.chaos.load import Load
from tests.support.chaos.rows import Rows
from tests.support.grpc.client import connect
from tests.support.grpc.stubs import Run
from tests.support.link import Link
from tests.support.script import Answer
from tests.support.serve.processes import kill
from tests.support.waiting import SECONDS, until

SERVING, NOT_SERVING = 1, 2

PROBES = 3
"""Calls that find the database away, one after the other, of each server."""


class Scene:
    """A fleet under load, and what the cases have measured."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        """Begins when all is well."""
        self.fleet = fleet
        self.load = load
        self.rows = Rows(fleet)
        self.figures: dict[str, float] = {}
        """Seconds, by what they are of; of the case that goes on."""
        self.slowest: float | None = None
        """Seconds until all runs had ended, if that was measured while a part was still away."""

    async def whole(self) -> None:
        """Waits until all is there again, and everybody says so."""
        await until(self.fleet.healthy)

    async def ended(self, ids: set[str], since: float) -> None:
        """Waits until these runs have ended; what was hurt at this time is still away."""
        await until(lambda: not ids & self.rows.open())
        self.slowest = time.monotonic() - since


async def clocks(scene: Scene) -> float:
    """None, but for the clocks: they are two minutes apart."""
    await scene.load.moves()
    return time.monotonic()


async def worker_killed(scene: Scene) -> float:
    """kill -9 of a worker in the middle of turns."""
    return await _killed(scene, scene.fleet.worker)


async def server_killed(scene: Scene) -> float:
    """kill -9 of a server that executes runs, with their streams."""
    return await _killed(scene, scene.fleet.servers[0])


async def _killed(scene: Scene, victim: Member) -> float:
    await until(victim.busy)
    since = await _dies(victim)
    # The others have all runs meanwhile.
    await scene.ended(scene.rows.open(), since)
    await scene.load.moves()
    await asyncio.to_thread(victim.part.start)
    return since


async def _dies(victim: Member) -> float:
    """Kills a member without warning; returns when."""
    kill(victim.pid)
    since = time.monotonic()
    await asyncio.to_thread(victim.part.kill)
    return since


async def worker_stopped(scene: Scene) -> float:
    """SIGSTOP of a worker past its lease, then SIGCONT: it writes nothing any more."""
    victim = scene.fleet.worker
    await until(victim.busy)
    kill(victim.pid, signal.SIGSTOP)
    since = time.monotonic()
    await _writes_nothing_any_more(scene, lambda: kill(victim.pid, signal.SIGCONT))
    return since


async def worker_cut_off(scene: Scene) -> float:
    """The link between a worker and the database stalls past its lease: the same."""
    victim = scene.fleet.worker
    await until(victim.busy)
    victim.database.stall()
    since = time.monotonic()
    # What it has sent meanwhile arrives then.
    await _writes_nothing_any_more(scene, victim.database.resume)
    return since


async def _writes_nothing_any_more(scene: Scene, go_on: Callable[[], None]) -> None:
    before, since = scene.rows.open(), time.monotonic()
    await scene.ended(before, since)
    await scene.load.moves()
    written = scene.rows.written(before)
    go_on()
    await scene.whole()
    await scene.load.moves()
    assert scene.rows.written(before) == written


async def server_cut_off(scene: Scene) -> float:
    """The link between a server and the database stalls: gateways call the other one."""
    victim, other = scene.fleet.servers
    await until(victim.busy)
    before, since = scene.rows.open(), time.monotonic()
    await _refused(scene, [victim], victim.database.stall)
    await until(lambda: health(victim.part) == NOT_SERVING)
    await until(lambda: health(other.part) == SERVING)
    await scene.ended(before, since)
    await scene.load.moves()
    victim.database.resume()
    return since


async def _refused(scene: Scene, servers: list[Member], hurt: Callable[[], None]) -> None:
    """Has calls of servers refused by what hurts them; measures how long the longest call waits."""

    async def call(server: Member) -> float:
        longest, refusals = 0.0, 0
        with connect(server.part.grpc_address) as stubs:
            while refusals < PROBES:
                begun = time.monotonic()
                if await asyncio.to_thread(status, stubs) == grpc.StatusCode.UNAVAILABLE:
                    longest, refusals = max(longest, time.monotonic() - begun), refusals + 1
        return longest

    calling = [asyncio.create_task(call(server)) for server in servers]
    await asyncio.to_thread(hurt)
    async with asyncio.timeout(SECONDS):
        scene.figures["to a refusal"] = max(await asyncio.gather(*calling))


async def worker_link_drops(scene: Scene) -> float:
    """The link between a worker and the database drops all connections, again and again."""
    return await _dropped(scene, scene.fleet.worker, scene.fleet.worker.database)


async def server_link_drops(scene: Scene) -> float:
    """The link between a server and the database drops all connections, again and again."""
    return await _dropped(scene, scene.fleet.servers[1], scene.fleet.servers[1].database)


async def nats_link_drops(scene: Scene) -> float:
    """The link between a server and NATS drops all connections, again and again."""
    return await _dropped(scene, scene.fleet.servers[0], scene.fleet.servers[0].nats)


async def _dropped(scene: Scene, victim: Member, link: Link) -> float:
    for _ in range(3):
        await until(victim.busy)
        link.drop()
    return time.monotonic()


async def nats_link_stalls(scene: Scene) -> float:
    """The link between a server and NATS stalls: the server goes on alone, and says so."""
    victim, other = scene.fleet.servers
    victim.nats.stall()
    await until(lambda: not healthy(victim.part, "nats") and not victim.sees_nats())
    await until(lambda: healthy(victim.part) and healthy(other.part, "nats"))
    await scene.load.moves()
    victim.nats.resume()
    return time.monotonic()


async def nats_killed(scene: Scene) -> float:
    """nats-server is killed, and comes back with its store."""
    return await _nats_killed(scene, forgets=False)


async def nats_killed_and_lost(scene: Scene) -> float:
    """nats-server is killed, and comes back without its store."""
    return await _nats_killed(scene, forgets=True)


async def _nats_killed(scene: Scene, *, forgets: bool) -> float:
    fleet = scene.fleet
    await until(fleet.worker.busy)
    fleet.nats.kill()
    await until(lambda: not any(healthy(each.part, "nats") for each in fleet.servers))
    await until(lambda: not any(each.sees_nats() for each in fleet.members))
    await until(
        lambda: fleet.gateway.healthy() and all(healthy(each.part) for each in fleet.servers)
    )
    # Servers execute what they take; what finds no slot there waits for one.
    await scene.load.moves()
    if forgets:
        fleet.nats.forget()
    fleet.nats.start()
    return time.monotonic()


async def postgres_restarted(scene: Scene) -> float:
    """PostgreSQL is killed, and starts again at once."""
    await until(scene.fleet.worker.busy)
    scene.fleet.postgres.kill()
    await asyncio.to_thread(scene.fleet.postgres.start)
    return time.monotonic()


async def postgres_away(scene: Scene) -> float:
    """PostgreSQL is killed, and away for a while: calls are refused at once, health says so."""
    fleet = scene.fleet
    await until(fleet.worker.busy)
    await _refused(scene, fleet.servers, fleet.postgres.kill)
    await until(lambda: all(health(each.part) == NOT_SERVING for each in fleet.servers))
    await until(lambda: not fleet.gateway.healthy())
    await until(lambda: not any(each.value("assistants_database_up") for each in fleet.members))
    await asyncio.to_thread(fleet.postgres.start)
    return time.monotonic()


async def indexing_killed(scene: Scene) -> float:
    """kill -9 of whoever indexes a file: another one does, from its beginning to its end."""
    with rest(scene.fleet.gateway) as client:
        files, stores = client.files, client.vector_stores
        victim: Member | None = None
        while victim is None:
            # Until one is seen at it.
            file = files.create(file=("long.txt", LONG.encode()), purpose="assistants").id
            store = stores.create(file_ids=[file]).id
            while victim is None and stores.retrieve(store).status == "in_progress":
                victim = await asyncio.to_thread(_who_indexes, scene.fleet)
        before, since = scene.rows.open(), await _dies(victim)
        await until(lambda: stores.retrieve(store).status == "completed")
        scene.figures["to the end of the indexing"] = time.monotonic() - since
        assert stores.retrieve(store).file_counts.completed == 1
        parts = stores.files.content(file, vector_store_id=store)
        assert "".join(str(part.text) for part in parts) == LONG
        [found] = stores.search(store, query="treasure", max_num_results=1).data
        assert "treasure" in found.content[0].text
        await scene.ended(before, since)
    await asyncio.to_thread(victim.part.start)
    return since


LONG = "".join(f"word{number} stands here. " for number in range(20_000)) + "The treasure."


def _who_indexes(fleet: Fleet) -> Member | None:
    found = (each for each in fleet.members if each.value("assistants_indexing_files"))
    return next(found, None)


async def code_killed(scene: Scene) -> float:
    """kill -9 of whoever executes code of a model: another one does, with the thread's files."""
    models = scene.fleet.models
    with connect(scene.fleet.gateway.env["ASSISTANTS_HTTP_ADDRESS"]) as stubs:
        keep = models.script(python("open('kept', 'w').write('kept')"), Answer("Kept."))
        first = start_run(stubs, keep)
        assert (await ended(stubs, first)).status == Run.completed
        read = python("print(open('kept').read())")
        waits = models.script(python("import time; time.sleep(1000)"), read, Answer("Read."))
        run = start_run(stubs, waits, first.thread_id)
        request = runs_pb2.ListRunStepsRequest(thread_id=run.thread_id, run_id=run.id)
        await until(lambda: stubs.runs.ListRunSteps(request).data)
        [victim] = [each for each in scene.fleet.members if _executes(each, run)]
        before, since = scene.rows.open(), await _dies(victim)
        assert (await ended(stubs, run)).status == Run.completed
        scene.figures["to the end of the code"] = time.monotonic() - since
        [said] = logs(stubs, run)
        assert said.endswith("kept\n")
        [_, *answers] = stubs.texts(run.thread_id)
        assert answers == [("assistant", "Kept."), ("assistant", "Read.")]
        assert len(models.requests(waits)) == 3
        await scene.ended(before, since)
    await asyncio.to_thread(victim.part.start)
    return since


def _executes(member: Member, run: Run) -> bool:
    lines = [line for line in member.part.printed().splitlines() if run.id in line]
    return any("in_progress" in line for line in lines)


Case = Callable[[Scene], Awaitable[float]]

CASES: tuple[Case, ...] = (
    clocks,
    worker_killed,
    server_killed,
    worker_stopped,
    worker_cut_off,
    server_cut_off,
    worker_link_drops,
    server_link_drops,
    nats_link_drops,
    nats_link_stalls,
    nats_killed,
    nats_killed_and_lost,
    postgres_restarted,
    postgres_away,
    indexing_killed,
    code_killed,
)
"""All of them, in the order in which the suite has them."""
