"""`when_active`: what happens to a message or a run whose thread has an active run."""

from assistants.v1 import messages_pb2, runs_pb2

from service.types import checks

REJECT, QUEUE = CHOICES = ("reject", "queue")


def queues(
    request: runs_pb2.CreateRunRequest | messages_pb2.CreateMessageRequest, default: str
) -> bool:
    """Returns whether what is created waits for the end of the active run, or else is refused."""
    if not request.HasField("when_active"):
        return default == QUEUE
    return checks.choice("when_active", request.when_active, CHOICES) == QUEUE
