"""The homeserver's media repository: what we make is put there."""

from bridge.matrix.client import HomeserverClient, MatrixError, failure_of
from bridge.matrix.medialinks import Media, read_mxc
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId


class MediaStore:
    """Writes as one of our bots."""

    def __init__(self, client: HomeserverClient, bot: UserId) -> None:
        self._client = client
        self._bot = bot

    async def put(self, data: bytes, kind: str, name: str, *, what: str) -> Media:
        """Store a file; give where it is. ``what``: how an error names it.

        Raises ``PermanentFailure`` if the homeserver does not take it, ``TemporaryFailure`` if
        it is away.
        """
        try:
            reply = await self._client.upload(data, kind, name, user=self._bot)
        except MatrixError as error:
            reason = f"the homeserver did not store {what}: {error}"
            if error.errcode == "M_TOO_LARGE":
                reason = f"the homeserver takes no file as large as {what}, of {len(data):,} bytes"
            raise failure_of(error, reason) from error
        media = read_mxc(reply.get("content_uri"))
        if media is None:
            raise PermanentFailure(f"the homeserver does not say where it stored {what}")
        return media
