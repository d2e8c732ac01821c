"""Of whom a chat takes nothing: of a person, or of all of a homeserver."""

from bridge.core.blocks import Blocks
from bridge.sdk.ids import InstanceId, RemoteChatId, UserId

NEAR, TEA = InstanceId("near"), RemoteChatId("#tea")
Row = tuple[InstanceId, RemoteChatId, str]


class Rows:
    """Blocks, kept."""

    def __init__(self) -> None:
        self.rows: set[Row] = set()

    async def all(self) -> set[Row]:
        return set(self.rows)

    async def add(self, *row: str) -> None:
        self.rows.add((InstanceId(row[0]), RemoteChatId(row[1]), row[2]))

    async def remove(self, *row: str) -> None:
        self.rows.discard((InstanceId(row[0]), RemoteChatId(row[1]), row[2]))


async def test_a_homeservers_block_holds_in_whatever_letters_and_a_persons_as_it_is_written(
) -> None:  # fmt: skip
    blocks = Blocks(Rows())
    await blocks.add(NEAR, TEA, "evil.example")
    await blocks.add(NEAR, TEA, "@Bad:ok.example")
    for one in ("@x:evil.example", "@x:EVIL.example", "@Bad:ok.example"):
        assert blocks.cover(NEAR, TEA, UserId(one)), one
    for one in ("@bad:ok.example", "@x:ok.example", "@x:evil.example:80"):
        assert not blocks.cover(NEAR, TEA, UserId(one)), one
