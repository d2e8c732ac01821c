"""The listener for whoever watches over Trestle: ``/metrics``, ``/live``, ``/ready``."""

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from bridge.matrix.listener import cannot_listen
from bridge.settings import Address
from bridge.telemetry import Telemetry

Health = Callable[[], str | None]
"""None when all is well, else the reason in a sentence."""


class OpsServer:
    """Serves on an address of its own; None switches it off."""

    def __init__(
        self, listen: Address | None, telemetry: Telemetry, *, live: Health, ready: Health
    ) -> None:
        self._listen = listen
        self._telemetry = telemetry
        self._live = live
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self.address = listen

    async def start(self) -> None:
        """Listen. Raises ``ConfigError`` when the address is taken."""
        if self._listen is None:
            return
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/live", self._health(self._live))
        app.router.add_get("/ready", self._health(self._ready))
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._listen).start()
        except OSError as error:
            await self.stop()
            raise cannot_listen(self._listen, error, "ops.listen") from error
        self.address = Address(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(self._telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    @staticmethod
    def _health(ask: Health) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            reason = ask()
            return web.Response(
                status=200 if reason is None else 503,
                body=orjson.dumps({"ok": reason is None, "reason": reason or ""}),
                content_type="application/json",
            )

        return answer
