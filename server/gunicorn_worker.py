"""gunicorn's ASGI worker, but that it closes no connection whose client does not expect it."""

from __future__ import annotations

from gunicorn.workers.gasgi import ASGIWorker


class PatientWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Takes no more connections when told to stop, and goes on serving those it has until ``leave`` is called.

    gunicorn's own closes each connection behind the answer that is running, although that answer did not say so,
    and a client may have sent its next request by then.

    Attributes:
        told_to_stop: No more connections are taken.
    """

    told_to_stop = False

    @property
    def connections(self) -> int:
        """Open connections."""
        return int(self.nr_conns)

    def handle_exit_signal(self) -> None:
        """Called by the event loop on SIGTERM."""
        self.told_to_stop = True
        for server in self.servers:
            server.close()
        if not self.servers:  # it has not begun to serve
            super().handle_exit_signal()

    def leave(self) -> None:
        """Stop now."""
        # NOTE: with connections left, gunicorn would wait for them as if they were busy.
        self._quick_shutdown = self.nr_conns > 0
        self.alive = False
