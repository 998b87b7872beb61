"""One server of `assistants serve --processes N`, a child of it (gateway/fleet.py).

python -m gateway.member ARGUMENT    # with the parent's settings
"""

import contextlib
import sys

import structlog
import uvloop

from gateway import children, fleet, serve
from service.errors import SettingsError
from service.process import logs, tracing
from service.settings import Settings
from storage import wall_clock


async def run(settings: Settings, member: fleet.Member) -> None:
    """Runs the server until SIGTERM. Raises SettingsError."""
    stop = serve.stop_signals()
    part = member.part(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(tracing.exporting())
        configured = await stack.enter_async_context(children.model_server(settings, works=False))
        server = member.embedded or configured
        model = await stack.enter_async_context(children.chat_model(settings, server))
        await serve.run_server(settings, part, model, stop)


def main() -> None:
    """Runs what the argument says."""
    member = fleet.Member.parse(sys.argv[1])
    try:
        settings = Settings.load()
        logs.configure(settings.log_level)
        wall_clock.set_offset(settings.clock_offset)
        structlog.contextvars.bind_contextvars(server=member.number)
        uvloop.run(run(settings, member))
    except SettingsError as error:
        print(f"assistants: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
