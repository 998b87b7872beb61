"""Which server has a thread's session of the code interpreter: in the thread's row."""

import structlog

from storage.errors import Unreachable
from storage.sessions import Sessions

log = structlog.get_logger(__name__)


class SessionRegister:
    """A register of sessions, for one of the servers of a database."""

    def __init__(self, sessions: Sessions, server: str) -> None:
        """Notes what `server` opens and closes."""
        self._sessions = sessions
        self._server = server

    async def is_newest(self, thread: str, session: str) -> bool:
        """Returns whether no other one was opened since. Raises Unreachable."""
        return await self._sessions.is_newest(thread, session)

    async def opened(self, thread: str, session: str) -> bool:
        """Notes a session; returns whether another server's is lost. Raises Unreachable."""
        before = await self._sessions.opened(thread, session, self._server)
        return before not in (None, self._server)

    async def closed(self, thread: str, session: str) -> bool:
        """Notes a session's end; returns whether it was the newest, False if that is not known."""
        try:
            return await self._sessions.closed(thread, session)
        except Unreachable as error:
            log.warning("end of a session not noted", thread=thread, error=str(error))
            return False
