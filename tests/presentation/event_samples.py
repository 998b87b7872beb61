"""Every kind of event that a stream can have."""

from itertools import product

from service.errors import ApiError, Kind
from service.presentation.events import Event
from service.runner import events
from storage.claims import Withdrawn
from storage.tables import MessageStatus, RunStatus, StepStatus
from storage.transitions import Ended
from tests.presentation import samples

TEXTS = ["", "a", 'a\n\nb\r\u2028"\\\x7f\x00😀ü']

EVENTS: list[Event] = [
    *map(events.thread_created, samples.THREADS),
    *(event for run in (samples.run(), samples.FULL_RUN) for event in events.run_created(run)),
    *(event for status in RunStatus for event in events.run(samples.run(status=status))),
    *events.run(samples.FULL_RUN, samples.FULL_STEP),
    *(events.run(samples.run(response_format=form))[0] for form in samples.FORMATS),
    *(events.step(samples.step(status=status)) for status in StepStatus),
    *(event for step in samples.STEPS for event in events.step_opened(step)),
    *(events.message(samples.message(status=status)) for status in MessageStatus),
    *(event for message in samples.MESSAGES for event in events.message_opened(message)),
    *events.ended(Ended(samples.FULL_RUN, samples.STEPS, samples.MESSAGES, None)),
    *events.withdrawn(Withdrawn([samples.step(), samples.calls_step()], [samples.message()]), 7),
    *(
        events.text_delta("msg_1", index, text, first=index == 0)
        for index, text in product((0, 1), TEXTS)
    ),
    *(events.refusal_delta("msg_1", index, text) for index, text in product((0, 1), TEXTS)),
    *(events.call_begun("step_1", index, "call_1", "f") for index in (0, 1)),
    *(events.call_arguments("step_1", index, text) for index, text in product((0, 1), TEXTS)),
    events.error(ApiError(Kind.internal, "m")),
    events.error(ApiError(Kind.invalid_value, "m", "p")),
    events.done(),
]
