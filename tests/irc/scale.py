"""How many examples a property test takes: few by default, many in the long proof."""

import os

from hypothesis import settings

SCALE = int(os.environ.get("TRESTLE_PROVE", "1"))


def examples(count: int) -> settings:
    """Return hypothesis settings for ``count`` examples times the scale."""
    return settings(max_examples=count * SCALE, deadline=None)
