"""Whether a request is the homeserver's: its token, told from others in constant time."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.sdk.secret import Secret


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is turned away."""

    status: int
    errcode: str
    reason: str


MISSING = Refusal(401, "M_UNAUTHORIZED", "No token was given.")
WRONG = Refusal(403, "M_FORBIDDEN", "That is not the homeserver's token.")


class Authorization:
    """Knows the current token and, while it is being changed, the one before."""

    def __init__(self, tokens: Sequence[Secret], *, legacy_query: bool) -> None:
        self._tokens = [token.reveal().encode() for token in tokens]
        self._legacy_query = legacy_query

    def check(self, headers: Sequence[str], query: str | None) -> Refusal | None:
        """Judge the ``Authorization`` headers and the ``access_token`` of the query.

        A header is needed, unless legacy query tokens are allowed. Where both are given, both
        must match (application service API, "Authorization").
        """
        if len(headers) > 1:
            return WRONG
        presented: list[str] = []
        if headers:
            scheme, _, token = headers[0].partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                return MISSING
            presented.append(token.strip())
        elif not self._legacy_query or not query:
            return MISSING
        if query is not None:
            presented.append(query)
        if all(self._is_ours(token) for token in presented):
            return None
        return WRONG

    def _is_ours(self, token: str) -> bool:
        given = token.encode("utf-8", "surrogateescape")
        # Every token is compared: the time tells nothing of which one is near.
        return bool(sum(hmac.compare_digest(given, ours) for ours in self._tokens))
