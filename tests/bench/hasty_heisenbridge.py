"""Starts heisenbridge without its delay between lines, in a virtual environment that has it.

It waits 1.5 s or more after each line when many come, to be liked by public networks; here it
would be all that is measured. What is installed stays as it is.
"""

import asyncio
from importlib import import_module
from typing import Any


class _Hasty:
    """``asyncio`` for the module that writes the lines, but nothing sleeps there."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Do not wait."""


writer: Any = import_module("heisenbridge.irc")
writer.asyncio = _Hasty()
import_module("heisenbridge.__main__").main()
