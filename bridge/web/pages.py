"""Pages for people, made from the templates beside this file."""

import asyncio
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATES = Path(__file__).parent / "templates"


async def page(name: str, words: Mapping[str, object], *, status: int = 200) -> web.Response:
    """Make a page of a template; what ``words`` has is escaped.

    Raises ``jinja2.UndefinedError`` if the template wants a word more.
    """
    template = (await asyncio.to_thread(_templates))[name]
    return web.Response(text=template.render(words), content_type="text/html", status=status)


@cache
def _templates() -> dict[str, "Template"]:
    # Where nobody looks at a page, 3 MiB are kept; the first who does must not halt the loop.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return {name: environment.get_template(name) for name in environment.list_templates()}
