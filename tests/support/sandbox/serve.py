"""A server that runs one piece of code in a session, to be killed. serve.py ENGINE ROOT CODE."""

import asyncio
import sys
from pathlib import Path

import uvloop

from service.sandbox.limits import Limits
from tests.support.sandbox.calls import call
from tests.support.sandbox.places import maker


async def main(engine: str, root: str, code: str) -> None:
    """Runs the code, and waits to be killed."""
    session = await maker(engine)(Path(root), Limits(seconds=1000)).open("thread")
    await call(session, code)
    await asyncio.sleep(1000)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
