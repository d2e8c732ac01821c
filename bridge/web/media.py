"""Media of Matrix for people on networks, by signed links on the public origin.

What others made is shown to whoever has the link: so nothing of it runs, is framed, or is shown
in the page unless it is a picture, a sound, a film or plain text.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
from aiohttp import web

from bridge.matrix.client import MatrixError
from bridge.matrix.downloads import Downloads
from bridge.matrix.medialinks import Media, MediaLinks, read_mxc
from bridge.sdk.errors import TemporaryFailure
from bridge.web.errors import ApiError
from bridge.web.ranges import Part, asked_in, part_of

log = logging.getLogger(__name__)

_INLINE = frozenset({
    "text/plain", "image/jpeg", "image/gif", "image/png", "image/apng", "image/webp",
    "image/avif", "video/mp4", "video/webm", "video/ogg", "video/quicktime", "audio/mp4",
    "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave", "audio/wav",
    "audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac",
})  # fmt: skip
"""What the specification has clients show by itself (client-server API, content repository)."""
_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; media-src 'self'"
_AT_ONCE = 20
_MOST_BYTES = 200 * 1024 * 1024
_WHOLE_SECONDS = 300.0
_PIECE = 64 * 1024
_TOO_LARGE = "This is too large to be passed on."


class MediaProxy:
    """Answers such links."""

    def __init__(
        self,
        links: MediaLinks,
        downloads: Downloads,
        is_deleted: Callable[[str], Awaitable[bool]],
        *,
        within: float = _WHOLE_SECONDS,
    ) -> None:
        """``is_deleted``: whether the message of such a mark is. ``within`` seconds it must be
        passed on, however slowly it is read."""
        self._links = links
        self._downloads = downloads
        self._is_deleted = is_deleted
        self._within = within
        self._under_way = 0

    def routes(self) -> list[web.RouteDef]:
        """Where it answers."""
        place = "/media/{until}/{server}/{id}/{mark}/{signature}/{name}"
        return [web.get(place, self.give)]

    async def give(self, request: web.Request) -> web.StreamResponse:
        """Give the media that the link leads to."""
        parts = request.match_info
        media = read_mxc(f"mxc://{parts['server']}/{parts['id']}")
        if (
            media is None
            or not self._links.read(
                parts["until"], media, parts["mark"], parts["signature"], parts["name"]
            )
            or await self._is_deleted(parts["mark"])
        ):
            raise ApiError(404, "M_NOT_FOUND", "This link is not good, or not any more.")
        if self._under_way >= _AT_ONCE:
            raise ApiError(503, "M_LIMIT_EXCEEDED", "Too many at once; try again.")
        self._under_way += 1
        try:
            asked = asked_in(request)
            text = request.headers["Range"] if asked else None
            async with asyncio.timeout(self._within), self._opened(media, text) as found:
                return await self._pass_on(request, found, part_of(found, asked), parts["name"])
        except TimeoutError as error:
            raise ApiError(504, "M_UNKNOWN", "This takes too long; try again.") from error
        finally:
            self._under_way -= 1

    @asynccontextmanager
    async def _opened(
        self, media: Media, part: str | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._downloads.reading(media, part) as found:
                yield found
        except MatrixError as error:
            log.info("media is not given: %s", error.errcode, extra={"event": "media_refused"})
            raise ApiError(404, "M_NOT_FOUND", "This is not there any more.") from error
        except TemporaryFailure as error:
            raise ApiError(502, "M_UNKNOWN", "The homeserver is away; try again.") from error

    async def _pass_on(
        self, request: web.Request, found: aiohttp.ClientResponse, part: Part, name: str
    ) -> web.StreamResponse:
        if (found.content_length or 0) > _MOST_BYTES:
            raise ApiError(404, "M_TOO_LARGE", _TOO_LARGE)
        shown = found.content_type in _INLINE
        kind = found.content_type if shown else "application/octet-stream"
        response = web.StreamResponse(status=part.status, headers={
            "Content-Type": "text/plain; charset=utf-8" if kind == "text/plain" else kind,
            "Content-Disposition": f"{'inline' if shown else 'attachment'}; "
            f"filename*=utf-8''{quote(name, safe='')}",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "cross-origin",
            # In its sandbox the browser's own player is of no origin, and asks as any other.
            "Access-Control-Allow-Origin": "*",
            **part.headers,
        })  # fmt: skip
        if part.end is not None:
            response.content_length = part.end - part.first
        await response.prepare(request)
        if request.method == "HEAD" or part.status == 416:
            return response  # What followed would be taken for the next answer.
        read = 0
        async for piece in found.content.iter_chunked(_PIECE):
            end = None if part.end is None else part.end - read
            await response.write(piece[max(part.first - read, 0) : end])
            read += len(piece)
            if request.transport is None:
                return response  # Whoever asked has gone: before the part begins nothing tells.
            if read > _MOST_BYTES:
                # Its length was not told. The answer has begun, and so breaks off.
                raise ApiError(404, "M_TOO_LARGE", _TOO_LARGE)
            if part.end is not None and read >= part.end:
                break
        await response.write_eof()
        return response
