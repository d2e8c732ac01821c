"""The logger that a module is given."""

import logging
from collections.abc import MutableMapping
from typing import Any

from bridge.sdk.ids import InstanceId


class ModuleLog(logging.LoggerAdapter[logging.Logger]):
    """Names the instance in each line, and keeps what else the module puts beside it.

    A line's ``extra={"event": ...}`` is its stable name; without one it is called ``module``.
    ``personal`` is for the login of one person: what a network says of it may name the person, so
    that only the sentence and its numbers are written, and ``…`` for the rest.
    """

    def __init__(self, instance: InstanceId, *, personal: bool = False) -> None:
        super().__init__(logging.getLogger(f"bridge.module.{instance}"), {"instance": instance})
        self._personal = personal

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a line."""
        if self._personal:
            args = tuple(one if isinstance(one, int | float) else "…" for one in args)
        super().log(level, msg, *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the instance beside what is there; the standard adapter would throw that away."""
        kwargs["extra"] = {"event": "module", **(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs
