"""Every kind of event that a stream can have."""

from itertools import product

from service.errors import ApiError, Kind
from service.runner.events import build
from service.types.events import Event
from storage.claims import Withdrawn
from storage.tables import MessageStatus, RunStatus, StepStatus
from storage.transitions import Ended
from tests.support.types import samples

TEXTS = ["", "a", 'a\n\nb\r\u2028"\\\x7f\x00😀ü']

EVENTS: list[Event] = [
    *map(build.thread_created, samples.THREADS),
    *(event for run in (samples.run(), samples.FULL_RUN) for event in build.run_created(run)),
    *(event for status in RunStatus for event in build.run(samples.run(status=status))),
    *build.run(samples.FULL_RUN, samples.FULL_STEP),
    *(build.run(samples.run(response_format=form))[0] for form in samples.FORMATS),
    *(build.step(samples.step(status=status)) for status in StepStatus),
    *(event for step in samples.STEPS for event in build.step_opened(step)),
    *(build.message(samples.message(status=status)) for status in MessageStatus),
    *(event for message in samples.MESSAGES for event in build.message_opened(message)),
    *build.ended(Ended(samples.FULL_RUN, samples.STEPS, samples.MESSAGES, None)),
    *build.withdrawn(Withdrawn([samples.step(), samples.calls_step()], [samples.message()]), 7),
    *(
        build.text_delta("msg_1", index, text, first=index == 0)
        for index, text in product((0, 1), TEXTS)
    ),
    *(build.refusal_delta("msg_1", index, text) for index, text in product((0, 1), TEXTS)),
    build.annotated_text_delta("msg_1", 0, "a", samples.NUMBERED[:1]),
    build.annotated_text_delta("msg_1", 1, "", samples.NUMBERED),
    build.image_file_delta("msg_1", 1, samples.IMAGE),
    *(build.call_begun("step_1", index, samples.BEGUN[0]) for index in (0, 1)),
    *(
        build.call_delta("step_1", index, "function", {"arguments": text})
        for index, text in product((0, 1), TEXTS)
    ),
    *(build.call_begun("step_1", 0, call) for call in samples.BEGUN),
    *(
        event
        for index, call in enumerate(samples.CALLS)
        for event in build.call_deltas("step_1", index, call)
    ),
    *(
        build.call_delta("step_1", 0, "code_interpreter", details)
        for details in ({"input": ""}, {"input": "1", "outputs": samples.PUT_OUT})
    ),
    build.error(ApiError(Kind.internal, "m")),
    build.error(ApiError(Kind.invalid_value, "m", "p")),
    build.done(),
]
