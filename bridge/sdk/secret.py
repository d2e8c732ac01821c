"""Text that does not print."""

import hmac


class Secret:
    """A credential. ``str()`` and ``repr()`` hide it; only :meth:`reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself. Call it where the wire is written and nowhere else."""
        return self._value

    def matches(self, candidate: bytes) -> bool:
        """Compare with ``candidate`` in constant time."""
        return hmac.compare_digest(self._value.encode("utf-8", "surrogatepass"), candidate)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self.matches(other._value.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not to be pickled")
