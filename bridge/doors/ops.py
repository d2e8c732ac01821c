"""The listener for whoever watches over Trestle: ``/metrics``, ``/live``, ``/ready``."""

from collections.abc import Callable

import orjson
from prometheus_client.exposition import choose_encoder

from bridge.doors.endpoints import Endpoint, Endpoints
from bridge.matrix.answer import Answer
from bridge.matrix.listener import Listener, Request, cannot_listen
from bridge.settings.records import Address
from bridge.telemetry import Telemetry

_IDLE_LIMIT = 300.0
"""Seconds: whoever asks each minute need not connect each time."""
_STOP_LIMIT = 2.0

Health = Callable[[], str | None]
"""None when all is well, else the reason in a sentence."""


class OpsServer:
    """Serves on an address of its own; None switches it off."""

    def __init__(self, listen: Address | None, telemetry: Telemetry, ready: Health) -> None:
        self._listen = listen
        self._telemetry = telemetry
        self._listener: Listener | None = None
        self._endpoints = Endpoints()
        self._endpoints.add("GET", "/metrics", self._metrics)
        self._endpoints.add("GET", "/live", _health(lambda: None))  # That it answers is enough.
        self._endpoints.add("GET", "/ready", _health(ready))
        self.address = listen

    async def start(self) -> None:
        """Listen. Raises ``ConfigError`` when the address is taken."""
        if self._listen is None:
            return
        listener = Listener(self._endpoints.serve, _IDLE_LIMIT, name="ops")
        try:
            self.address = await listener.start(self._listen)
        except OSError as error:
            raise cannot_listen(self._listen, error, "ops.listen") from error
        self._listener = listener

    async def stop(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop(_STOP_LIMIT)

    async def _metrics(self, request: Request, _: str) -> Answer:
        encode, kind = choose_encoder(request.header("accept") or "")
        return Answer(body=encode(self._telemetry.registry), kind=kind)


def _health(ask: Health) -> Endpoint:
    async def answer(request: Request, _: str) -> Answer:
        reason = ask()
        body = orjson.dumps({"ok": reason is None, "reason": reason or ""})
        return Answer(200 if reason is None else 503, body)

    return answer
