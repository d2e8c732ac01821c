"""The 99 colours of IRC and the nearest of them to a given one."""

from functools import lru_cache

# modern.ircdocs.horse/formatting: 0-15 differ between clients, these are the usual ones;
# 16-98 are fixed.
_HEX = (
    "ffffff 000000 00007f 009300 ff0000 7f0000 9c009c fc7f00 "
    "ffff00 00fc00 009393 00ffff 0000fc ff00ff 7f7f7f d2d2d2 "
    "470000 472100 474700 324700 004700 00472c 004747 002747 000047 2e0047 470047 47002a "
    "740000 743a00 747400 517400 007400 007449 007474 004074 000074 4b0074 740074 740045 "
    "b50000 b56300 b5b500 7db500 00b500 00b571 00b5b5 0063b5 0000b5 7500b5 b500b5 b5006b "
    "ff0000 ff8c00 ffff00 b2ff00 00ff00 00ffa0 00ffff 008cff 0000ff a500ff ff00ff ff0098 "
    "ff5959 ffb459 ffff71 cfff60 6fff6f 65ffc9 6dffff 59b4ff 5959ff c459ff ff66ff ff59bc "
    "ff9c9c ffd39c ffff9c e2ff9c 9cff9c 9cffdb 9cffff 9cd3ff 9c9cff dc9cff ff9cff ff94d3 "
    "000000 131313 282828 363636 4d4d4d 656565 818181 9f9f9f bcbcbc e2e2e2 ffffff"
)
PALETTE = tuple(f"#{colour}" for colour in _HEX.split())
DEFAULT = 99
"""The number that stands for the reader's own colour."""


def colour_of(number: int) -> str | None:
    """Return ``#rrggbb``, or None for a number that names none."""
    return PALETTE[number] if 0 <= number < len(PALETTE) else None


@lru_cache(maxsize=1024)
def nearest(colour: str, among: int) -> int:
    """Return the number, of the first ``among``, that is nearest to ``#rrggbb``."""
    red, green, blue = _channels(colour)

    def distance(number: int) -> float:
        other_red, other_green, other_blue = _channels(PALETTE[number])
        # "Redmean": near enough to how eyes weigh the channels, without a colour library.
        mean = (red + other_red) / 2
        return (
            (2 + mean / 256) * (red - other_red) ** 2
            + 4 * (green - other_green) ** 2
            + (2 + (255 - mean) / 256) * (blue - other_blue) ** 2
        )

    return min(range(min(among, len(PALETTE))), key=distance)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
