"""A restart of the homeserver between two beats is noticed, soon after another, too."""

import asyncio

from aiohttp import web

from bridge.matrix.pulse import Pulse


async def test_a_restart_soon_after_the_last_is_reported_when_its_time_has_come() -> None:
    beats, reported = 0, asyncio.Queue[float]()

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal beats
        beats += 1
        response = web.json_response({})
        if beats == 2:
            response.force_close()  # As if it had ended: the next beat finds another.
        return response

    loop = asyncio.get_running_loop()
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://{}:{}".format(*runner.addresses[0][:2])
        pulse = Pulse(url, lambda: reported.put_nowait(loop.time()), interval=0.02)
        pulse.at_most_every = 0.5
        began = loop.time()
        running = loop.create_task(pulse.run())
        try:
            async with asyncio.timeout(20):
                assert await reported.get() - began >= 0.5
                seen = beats
                while beats < seen + 5:
                    await asyncio.sleep(0.02)
            assert reported.empty()
        finally:
            running.cancel()
    finally:
        await runner.cleanup()
