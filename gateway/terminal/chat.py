"""`assistants chat`: a conversation in the terminal, over gRPC.

Answers are printed as they stream. Ctrl-C stops an answer (it cancels the run), Ctrl-D leaves.
"""

import contextlib
import queue
import threading
from collections.abc import Iterable

import grpc
from assistants.v1 import (
    assistants_pb2,
    assistants_pb2_grpc,
    events_pb2,
    messages_pb2,
    run_objects_pb2,
    runs_pb2,
    runs_pb2_grpc,
    threads_pb2,
    threads_pb2_grpc,
)
from rich.console import Console
from rich.markup import escape

Assistant = assistants_pb2.Assistant
Run = run_objects_pb2.Run
RunEvent = events_pb2.RunEvent
Thread = threads_pb2.Thread


class Chat:
    """One conversation: an assistant, a thread, and a terminal."""

    def __init__(self, channel: grpc.Channel, console: Console, command: str) -> None:
        """Speaks to the server at the other end of `channel`.

        `command` is what a shell takes to start a chat like this one: in the end it is shown, with
        what goes on with this one.
        """
        self._assistants = assistants_pb2_grpc.AssistantsServiceStub(channel)
        self._threads = threads_pb2_grpc.ThreadsServiceStub(channel)
        self._runs = runs_pb2_grpc.RunsServiceStub(channel)
        self._console = console
        self._command = command
        self._ids = ""
        self._run: Run | None = None

    def hold(self, assistant_id: str | None, thread_id: str | None, model: str | None) -> None:
        """Talks until Ctrl-D. Raises grpc.RpcError where the server refuses, or does not answer.

        Without `assistant_id` the user chooses one, or has one created, on `model` or on what the
        user says. Without `thread_id` the conversation starts a new thread.
        """
        try:
            # A wrong thread is refused before an assistant is chosen, or created in vain.
            thread = self._thread(thread_id) if thread_id is not None else None
            assistant = self._assistant(assistant_id, model)
            thread = thread or self._threads.CreateThread(threads_pb2.CreateThreadRequest())
            self._ids = f"--assistant {assistant.id} --thread {thread.id}"
            self._say(
                f"[bold]{escape(assistant.name or assistant.id)}[/] ({escape(assistant.model)}), "
                f"thread {thread.id}. Ctrl-C stops an answer, Ctrl-D leaves."
            )
            while True:
                self._turn(assistant.id, thread.id)
        except (EOFError, KeyboardInterrupt):
            self._say("")
            if self._ids:
                self._write(f"To go on: {self._command} {self._ids}\n")

    def _assistant(self, assistant_id: str | None, model: str | None) -> Assistant:
        if assistant_id is not None:
            wanted = assistants_pb2.GetAssistantRequest(assistant_id=assistant_id)
            found: Assistant = self._assistants.GetAssistant(wanted)
            return found
        page = self._assistants.ListAssistants(assistants_pb2.ListAssistantsRequest())
        known: list[Assistant] = list(page.data)
        if not known:
            return self._new_assistant(model)
        for number, each in enumerate(known, 1):
            self._say(f"{number:3} [bold]{escape(each.name or each.id)}[/] ({escape(each.model)})")
        if page.has_more:
            self._say("These are the newest. There are more: --assistant takes the id of any.")
        while True:
            answer = self._ask("Which assistant? A number, or Enter for a new one: ")
            if not answer:
                return self._new_assistant(model)
            if answer.isdecimal() and 0 < int(answer) <= len(known):
                return known[int(answer) - 1]
            self._say(f"There is no number {escape(answer)}.")

    def _new_assistant(self, model: str | None) -> Assistant:
        name = self._ask("Name of the new assistant: ") or "Assistant"
        instructions = self._ask("Its instructions (Enter for none): ")
        # The embedded model answers under any name.
        model = model or self._ask("Its model (Enter for the embedded one): ") or "default"
        created: Assistant = self._assistants.CreateAssistant(
            assistants_pb2.CreateAssistantRequest(
                model=model, name=name, instructions=instructions or None
            )
        )
        # Printed at once, as it stays whatever becomes of the conversation.
        self._say(f"Created {created.id}.")
        return created

    def _thread(self, thread_id: str) -> Thread:
        wanted = threads_pb2.GetThreadRequest(thread_id=thread_id)
        found: Thread = self._threads.GetThread(wanted)
        return found

    def _turn(self, assistant_id: str, thread_id: str) -> None:
        try:
            if text := self._ask("\n[bold green]you[/] "):
                self._exchange(assistant_id, thread_id, text)
        except KeyboardInterrupt:
            self._say("")

    def _exchange(self, assistant_id: str, thread_id: str, text: str) -> None:
        """Sends what the user wrote and prints what comes back, tool calls included."""
        message = messages_pb2.NewMessage(
            role="user",
            parts=[messages_pb2.MessageContent(text=messages_pb2.MessageContent.Text(value=text))],
        )
        request = runs_pb2.CreateRunRequest(
            thread_id=thread_id, assistant_id=assistant_id, additional_messages=[message]
        )
        try:
            run = self._show(self._runs.StreamRun(request))
            while run is not None and run.status == Run.requires_action:
                outputs = [
                    runs_pb2.ToolOutput(tool_call_id=call.id, output=self._output(call))
                    for call in run.required_action.submit_tool_outputs.tool_calls
                ]
                submission = runs_pb2.SubmitToolOutputsRequest(
                    thread_id=thread_id, run_id=run.id, tool_outputs=outputs
                )
                run = self._show(self._runs.StreamToolOutputs(submission))
        except (KeyboardInterrupt, EOFError) as leaving:
            # At the prompt for an output: nobody will give it, so the run is not to wait for it.
            self._cancel()
            if isinstance(leaving, EOFError):
                raise
        except grpc.RpcError as error:
            self._say(f"\n[red]{escape(details(error))}[/]")

    def _show(self, events: Iterable[RunEvent]) -> Run | None:
        """Prints the events until they end; returns the run as it was last seen."""
        self._run = None
        received: queue.Queue[RunEvent | Exception | None] = queue.Queue()
        # Read by another thread: an iterator of gRPC's that Ctrl-C has interrupted cannot go on.
        threading.Thread(target=_pump, args=(events, received), daemon=True).start()
        stopping = False
        while True:
            try:
                match received.get():
                    case None:
                        return self._run
                    case Exception() as error:
                        raise error
                    case event:
                        self._print(event)
            except KeyboardInterrupt:
                if stopping and self._run is None:
                    raise  # A silent server is not waited for.
                stopping = True
            if stopping and self._run is not None:
                stopping = False
                self._cancel()

    def _print(self, event: RunEvent) -> None:
        match event.WhichOneof("data"):
            case "message_delta":
                for piece in event.message_delta.content:
                    self._write(piece.text.value or piece.refusal)
            case "run_step_delta":
                for call in event.run_step_delta.tool_calls:
                    name = call.function.name or str(call.WhichOneof("tool"))
                    start = f"\n[cyan]calls {escape(name)}[/] " if call.id else ""
                    self._console.print(start, end="")
                    self._write(call.function.arguments or call.code_interpreter.input)
            case "run":
                self._run = event.run
                self._print_status(event.run)
            case "message" if event.event == "thread.message.created":
                self._console.print("[bold blue]assistant[/] ", end="")
            case "error":
                self._say(f"\n[red]{escape(event.error.message)}[/]")

    def _print_status(self, run: Run) -> None:
        match run.status:
            case Run.failed:
                self._say(f"\n[red]failed: {escape(run.last_error.message)}[/]")
            case Run.cancelled | Run.expired | Run.incomplete:
                self._say(f"\n[yellow]{Run.Status.Name(run.status)}[/]")
            case Run.completed:
                self._say("")

    def _output(self, call: run_objects_pb2.ToolCall) -> str:
        return self._ask(f"\nWhat does [cyan]{escape(call.function.name)}[/] return? ")

    def _cancel(self) -> None:
        if self._run is None:
            return
        request = runs_pb2.CancelRunRequest(thread_id=self._run.thread_id, run_id=self._run.id)
        # Refused where the run has just ended: then there is nothing left to stop.
        with contextlib.suppress(grpc.RpcError):
            self._runs.CancelRun(request)

    def _ask(self, prompt: str) -> str:
        return self._console.input(prompt).strip()

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def _write(self, text: str) -> None:
        """Prints what the model wrote, as it is."""
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)


def details(error: grpc.RpcError) -> str:
    """Returns what the server says of an error, for people."""
    return str(error.details()) if isinstance(error, grpc.Call) else str(error)


def _pump(events: Iterable[RunEvent], received: "queue.Queue[RunEvent | Exception | None]") -> None:
    try:
        for event in events:
            received.put(event)
        received.put(None)
    except Exception as error:
        received.put(error)
