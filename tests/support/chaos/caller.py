"""A caller that does not give up: it asks again, and goes on with streams where they broke off."""

import contextlib
import time
from typing import Any

import httpx2

from tests.support.chaos.model import Model
from tests.support.chaos.record import KINDS, Record
from tests.support.chaos.view import View, text_of
from tests.support.rest.resuming import Event, parsed

RUNS = 6
"""Runs of a conversation."""

PATIENCE = 6.0
"""Seconds without a byte after which a caller takes a connection for dead."""

AGAIN = 0.1
"""Seconds until a caller asks again."""

LOST = 0
"""Stands for the status of a call whose answer was lost."""

WITH_IDS = {"x-event-ids": "on"}

TERMINAL = ("completed", "cancelled", "failed", "expired", "incomplete")


class Over(Exception):
    """The load is over, or something has happened that must not."""


class Caller:
    """Holds one conversation after the other through a gateway, and checks what it is answered."""

    def __init__(
        self, number: int, base_url: str, assistants: dict[str, str], model: Model, record: Record
    ) -> None:
        """Talks to assistants, which are given by the kinds of runs."""
        self._number = number
        self._base_url = base_url
        self._assistants = assistants
        self._model = model
        self._record = record
        self._thread = ""
        self._accepted: list[str] = []
        self._doubtful: set[str] = set()
        """Messages whose answers were lost: they are there once, or not."""

    def work(self) -> None:
        """Goes on until the load is over."""
        timeout = httpx2.Timeout(PATIENCE)
        with (
            contextlib.suppress(Over),
            httpx2.Client(base_url=self._base_url, timeout=timeout) as self._client,
        ):
            while True:
                self._converse()

    def _converse(self) -> None:
        if self._record.over:
            raise Over
        self._thread = self._sure("POST", "/threads", {})["id"]
        self._accepted, self._doubtful = [], set()
        for turn in range(RUNS):
            kind = KINDS[(self._number + turn) % len(KINDS)]
            name = self._model.names()
            self._say(name)
            self._record.asked_for(name, kind)
            view = View()
            run = self._create(name, kind, view)
            if kind == "cancelled":
                self._call("POST", f"{self._path(run)}/cancel", {}, (400,))
            run = self._follow(run, view)
            self._check(name, kind, run, view)
            self._record.ended(self._number)

    def _say(self, name: str) -> None:
        """Adds a message to the thread."""
        attempt = 0
        while True:
            text = f"ask {name} {attempt}"
            body = {"role": "user", "content": text}
            status, _ = self._call("POST", f"/threads/{self._thread}/messages", body)
            if status == 200:
                self._accepted.append(text)
                return
            self._doubtful.add(text)
            attempt += 1
            self._pause()

    def _create(self, name: str, kind: str, view: View) -> dict[str, Any]:
        """Creates a run, and reads its stream as far as that goes."""
        body = {
            "assistant_id": self._assistants[kind],
            "instructions": f"run {name}",
            "metadata": {"name": name},
            "stream": True,
        }
        while True:
            status = self._read("POST", f"/threads/{self._thread}/runs", view, body)
            if view.run is not None:
                return view.run
            # Its answer was lost: if it is there, it is this one.
            listed = self._sure("GET", f"/threads/{self._thread}/runs?limit=5")["data"]
            for run in listed:
                if run["metadata"] == {"name": name}:
                    self._record.count("runs found after a lost answer")
                    return dict(run)
            if status == 400 and all(run["status"] in TERMINAL for run in listed):
                self._record.count("runs refused for one that has just ended")
            self._pause()

    def _follow(self, run: dict[str, Any], view: View) -> dict[str, Any]:
        """Reads a run's stream up to its end, and gives it the outputs that it wants."""
        path = self._path(run)
        while True:
            if view.done or view.lossy:
                run = self._sure("GET", path)
                if run["status"] in TERMINAL:
                    return run
                if run["status"] == "requires_action":
                    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
                    outputs = [{"tool_call_id": call["id"], "output": "seen"} for call in calls]
                    body = {"tool_outputs": outputs}
                    # Refused if an answer was lost, and the outputs have come.
                    status, _ = self._call("POST", f"{path}/submit_tool_outputs", body, (400,))
                    if status != 200:
                        self._pause()
                        continue
                if view.lossy:
                    self._pause()
                    continue
            status = self._read("GET", f"{path}/events", view)
            if status == 410:
                self._record.count("streams with events that were gone")
                view.lossy = True
            elif not view.done:
                self._record.count("streams resumed")
                self._pause()

    def _check(self, name: str, kind: str, run: dict[str, Any], view: View) -> None:
        """Checks that the thread has what was accepted, and one answer, as the stream has it."""
        messages = self._sure("GET", f"/threads/{self._thread}/messages?order=asc&limit=100")[
            "data"
        ]
        said = [text_of(each) for each in messages if each["role"] == "user"]
        sure = [text for text in said if text not in self._doubtful]
        if sure != self._accepted or len(said) != len(set(said)):
            self._wrong(f"{name}: messages {said}, and accepted were {self._accepted}")
        answers = [each for each in messages if each["run_id"] == run["id"]]
        complete = {each["id"]: text_of(each) for each in answers if each["status"] == "completed"}
        if run["status"] == "completed":
            if len(answers) != 1 or not all(
                self._model.said(name, each) for each in complete.values()
            ):
                self._wrong(f"{name}: has the answers {answers}")
        elif run["status"] != "cancelled" or kind != "cancelled":
            self._wrong(f"{name}: ended as {run['status']}: {run['last_error']}")
        elif len(answers) > 1:
            self._wrong(f"{name}: has the answers {answers}")
        if view.lossy:
            return
        shown = {id: view.texts.get(id) for id in view.completed}
        if not complete == view.completed == shown:
            self._wrong(f"{name}: stored {complete}, streamed {view.completed} by deltas {shown}")
        if view.run is None or view.run["status"] != run["status"]:
            self._wrong(f"{name}: the stream ended with {view.run}")

    def _path(self, run: dict[str, Any]) -> str:
        return f"/threads/{self._thread}/runs/{run['id']}"

    def _sure(self, method: str, path: str, body: Any = None) -> Any:
        """Makes a call that may be made twice, until it is answered."""
        while True:
            status, answer = self._call(method, path, body)
            if status == 200:
                return answer
            self._pause()

    def _call(
        self, method: str, path: str, body: Any = None, expected: tuple[int, ...] = ()
    ) -> tuple[int, Any]:
        """Returns the status of a call, and what it answered; `LOST` if that was lost."""
        try:
            response = self._client.request(method, path, json=body)
        except httpx2.TransportError:
            self._record.count("calls whose answers were lost")
            return LOST, None
        if response.status_code not in (200, *expected):
            self._refused(response, f"{method} {path}")
        return response.status_code, response.json()

    def _read(self, method: str, path: str, view: View, body: Any = None) -> int:
        """Reads a stream as far as it goes. Returns the call's status."""
        headers = {"Last-Event-ID": str(view.last)} if method == "GET" else WITH_IDS
        try:
            with self._client.stream(method, path, json=body, headers=headers) as response:
                if response.status_code != 200:
                    response.read()
                    self._refused(response, f"{method} {path}")
                    return response.status_code
                last = ""
                for event in parsed(response.iter_lines(), []):
                    self._take(event, view)
                    last = event.name
                if last not in ("done", "error"):
                    self._wrong(f"{method} {path}: ends after {last or 'nothing'}")
        except httpx2.TransportError:
            self._record.count("streams broken off")
            return LOST
        return 200

    def _take(self, event: Event, view: View) -> None:
        if event.name == "error":
            self._record.count("streams ended with an error")
        if problem := view.take(event):
            self._wrong(f"{event.name}: {problem}")

    def _refused(self, response: httpx2.Response, call: str) -> None:
        """Counts a refusal: 503 is what an outage may bring."""
        status, text = response.status_code, response.text
        self._record.count(f"calls refused with {status}")
        if status not in (400, 410, 503):
            self._wrong(f"{call}: {status} {text}")

    def _pause(self) -> None:
        if self._record.over:
            raise Over
        time.sleep(AGAIN)

    def _wrong(self, what: str) -> None:
        self._record.violation(what)
        raise Over
