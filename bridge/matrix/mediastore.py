"""The homeserver's media repository: texts are put there."""

from bridge.matrix.client import HomeserverClient, MatrixError
from bridge.matrix.medialinks import Media, read_mxc
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.ids import UserId


class MediaStore:
    """Writes as one of our bots."""

    def __init__(self, client: HomeserverClient, bot: UserId) -> None:
        self._client = client
        self._bot = bot

    async def put_text(self, text: str, name: str) -> Media:
        """Store a text; give where it is.

        Raises ``PermanentFailure`` if the homeserver does not take it, ``TemporaryFailure`` if
        it is away.
        """
        try:
            reply = await self._client.upload(
                text.encode("utf-8", "replace"), "text/plain; charset=utf-8", name, user=self._bot
            )
        except MatrixError as error:
            raise PermanentFailure(f"the homeserver did not store the text: {error}") from error
        media = read_mxc(reply.get("content_uri"))
        if media is None:
            raise PermanentFailure("the homeserver does not say where it stored the text")
        return media
