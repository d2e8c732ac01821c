"""Writing YAML in tests."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML


def dump(data: Mapping[str, Any]) -> str:
    """The mapping as YAML."""
    output = io.StringIO()
    YAML().dump(dict(data), output)
    return output.getvalue()
