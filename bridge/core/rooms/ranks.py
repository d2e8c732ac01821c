"""What a rank in a chat is worth in its room."""

from bridge.sdk.events import Rank

POWERS = {
    Rank.NONE: 0, Rank.VOICED: 1, Rank.HELPER: 25, Rank.MODERATOR: 50, Rank.OWNER: 50,
}  # fmt: skip
"""Nobody on a network stands as high as a room's admins."""
