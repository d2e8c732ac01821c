"""The headers that every answer of ours has, errors too; only what is no HTTP the library answers.

No page of ours loads anything from elsewhere, runs what is written into the page, is framed by
others, or tells where a visitor came from. Nothing sets a cookie.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
        "connect-src 'self'", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    )
)  # fmt: skip
_ALWAYS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_TLS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}

Signal = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def headers_for(url: str) -> Signal:
    """What puts the headers into each answer of the origin at ``url``."""
    given = _ALWAYS | (_TLS_ONLY if url.startswith("https://") else {})

    async def put(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in given.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["Server"] = "Trestle"  # Which library and version is nobody's business.

    return put


def origin_of(url: str) -> str:
    """The origin of a URL, as browsers write it."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, standard) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
