"""Values that are kept as JSON. A disk may have changed a bit in one: SQLite notices only what breaks a page."""

from __future__ import annotations

import json
from typing import Any


def json_or(text: object, otherwise: Any) -> Any:
    """What was kept; `otherwise` when that is no JSON any more, or JSON of another kind."""
    try:
        value = json.loads(str(text))
    except (ValueError, RecursionError):
        return otherwise
    return value if otherwise is None or isinstance(value, type(otherwise)) else otherwise
