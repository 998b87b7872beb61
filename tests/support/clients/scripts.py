"""What both drivers check, by name, and what the model of each check says meanwhile."""

from collections.abc import Callable, Mapping
from typing import Final

from tests.support.script import Answer, BreakOff, Calls, Fail, Hold, Refusal, Step

Steps = Callable[[], tuple[Step, ...]]
Checks = Mapping[str, Steps]

PARIS: Final = ("get_weather", {"city": "Paris"})
ROME: Final = ("get_weather", {"city": "Rome"})

CODE: Final = """
from PIL import Image
text = open('/mnt/data/in.csv').read()
print(text)
display(Image.new('RGB', (2, 2)))
_ = open('/mnt/data/out.csv', 'w').write(text[::-1])
"""


def silent() -> tuple[Step, ...]:
    """A model that is not asked."""
    return ()


def answers() -> tuple[Step, ...]:
    """A model that answers."""
    return (Answer("Hello there, 世界!"),)


def calls() -> tuple[Step, ...]:
    """A model that calls the function twice, in parallel, and then answers."""
    return (Calls(PARIS, ROME), Answer("Sunny."))


def code() -> tuple[Step, ...]:
    """A model that has code run, and links to what it wrote."""
    return (Calls(("python", {"code": CODE})), Answer("[out.csv](sandbox:/mnt/data/out.csv)"))


def searches() -> tuple[Step, ...]:
    """A model that searches, and cites what was found."""
    asked = ("file_search", {"queries": ["What do foxes eat?"]})
    return Calls(asked), Answer("Mice 🐁【1:0†a.txt】.")


def held() -> tuple[Step, ...]:
    """A model that falls silent in the middle of its answer."""
    return (Hold(Answer("Hello there"), after="Hello"),)


COMMON: Final[Checks] = {
    "every_call_on_assistants": silent,
    "every_call_on_threads_and_messages": silent,
    "pages": silent,
    "stream": answers,
    "stream_of_a_new_thread": answers,
    "stream_of_calls": calls,
    "stream_of_a_refusal": lambda: (Refusal("I would rather not."),),
    "stream_of_a_failure": lambda: (Fail(400, "Too hot."),),
    "stream_of_half_an_answer": lambda: (BreakOff("Half an ans"),),
    "stream_of_an_incomplete_answer": lambda: (Answer("Cut sh", finish_reason="length"),),
    "stream_of_a_cancelled_run": held,
    "stream_that_is_left": held,
    "plain_events": lambda: (*answers(), *calls()),
    "polling": answers,
    "polling_a_new_thread": answers,
    "polling_calls": calls,
    "every_call_on_runs_and_steps": calls,
    "every_call_on_files": silent,
    "every_call_on_uploads": silent,
    "every_call_on_models": silent,
    "every_call_on_vector_stores": silent,
    "files_of_vector_stores": silent,
    "batches_of_vector_stores": silent,
    "stream_of_a_search": searches,
    "raw_responses": answers,
    "code_interpreter": code,
    "errors": held,
    "no_warnings": silent,
}

PYTHON: Final[Checks] = {
    **COMMON,
    "uploads_in_chunks": silent,
    "text_deltas": answers,
    "streamed_responses": answers,
    "timeout": held,
}

NODE: Final[Checks] = {**COMMON, "readable_stream": answers}
