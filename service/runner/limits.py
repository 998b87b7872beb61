"""What an attempt at a run may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may take."""

    lease_seconds: float
    """How long a claim holds; it is renewed three times as often."""
    model_retries: int
    """How often the model is asked again after a failure that may pass."""
    prompt_bytes: int = 2**20
    """Bytes of the thread's turns in a prompt for a model whose context is not known."""
    tool_turns: int = 32
    """Turns in which the model may call the server's tools, before it has to answer."""
