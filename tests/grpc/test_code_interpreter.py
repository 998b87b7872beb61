"""The code interpreter over typed gRPC: what a stream shows, and what is read afterwards."""

import grpc
from assistants.v1 import common_pb2, files_pb2, messages_pb2, runs_pb2
from assistants.v1.files_pb2_grpc import FilesServiceStub

from tests.support.grpc.stubs import Stubs, last_run, names, whole
from tests.support.model_server import ModelServer
from tests.support.script import Answer, Calls
from tests.support.sequences import CALLING, COMPLETED, QUEUED, SPEAKING

TOOL = common_pb2.Tool(type="code_interpreter")
CODE = """
from PIL import Image
print(open('a.txt').read())
display(Image.new('RGB', (2, 2)))
open('b.txt', 'w').write('out')
"""
ANSWER = "Take [b](sandbox:/mnt/data/b.txt)."


def test_a_run(stubs: Stubs, channel: grpc.Channel, models: ModelServer) -> None:
    files = FilesServiceStub(channel)
    upload = files_pb2.UploadFileRequest(
        filename="a.txt", purpose="assistants", bytes=2, data=b"in"
    )
    given = files.UploadFile(iter([upload]))
    model = models.script(Calls(("python", {"code": CODE})), Answer(ANSWER))
    used = common_pb2.ToolResources.CodeInterpreter(file_ids=[given.id])
    assistant = stubs.assistant(
        model,
        tools=[TOOL],
        tool_resources=common_pb2.ToolResources(code_interpreter=used),
    )
    thread = stubs.thread("Go")
    request = runs_pb2.CreateRunRequest(thread_id=thread.id, assistant_id=assistant.id)
    events = whole(stubs.runs.StreamRun(request))
    executed = [*CALLING[:3], "thread.run.step.completed"]
    assert names(events) == [*QUEUED, *executed, *SPEAKING, *COMPLETED]
    deltas = [piece for event in events for piece in event.run_step_delta.tool_calls]
    assert [piece.index for piece in deltas] == [0] * len(deltas)
    assert [bool(piece.id) for piece in deltas] == [True, *[False] * (len(deltas) - 1)]
    assert "".join(piece.code_interpreter.input for piece in deltas) == CODE
    outputs = [output for piece in deltas for output in piece.code_interpreter.outputs]
    assert "".join(output.logs for output in outputs) == "in\n3\n"
    [image] = [output.image.file_id for output in outputs if output.image.file_id]
    run = last_run(events)
    listing = messages_pb2.ListMessagesRequest(thread_id=thread.id, run_id=run.id)
    [message] = stubs.messages.ListMessages(listing).data
    picture, text = message.content
    assert picture.image_file.file_id == image
    [annotation] = text.text.annotations
    assert annotation.text == "sandbox:/mnt/data/b.txt"
    [attachment] = message.attachments
    assert attachment.file_id == annotation.file_path
    download = files_pb2.DownloadFileRequest(file_id=attachment.file_id)
    assert b"".join(piece.data for piece in files.DownloadFile(download)) == b"out"
