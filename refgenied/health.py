"""The faults of this moment, with one line each. A fault stays until somebody clears it."""

from collections.abc import Callable

import structlog

log = structlog.get_logger("health")

Clock = Callable[[], float]
"""UTC as Unix seconds."""


class Health:
    """Named conditions. A condition is logged once when it is set, and once when it is cleared."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._conditions: dict[str, tuple[str, float]] = {}

    def set(self, name: str, message: str) -> None:
        known = self._conditions.get(name)
        if known and known[0] == message:
            return
        self._conditions[name] = (message, known[1] if known else self._clock())
        log.warning("health.warning", condition=name, message=message)

    def clear(self, name: str) -> None:
        if self._conditions.pop(name, None):
            log.info("health.restored", condition=name)

    def note(self, name: str, message: str) -> None:
        """Set the condition, or clear it when the message is empty."""
        if message:
            self.set(name, message)
        else:
            self.clear(name)

    @property
    def conditions(self) -> dict[str, tuple[str, float]]:
        """Condition → (message, since when)."""
        return dict(self._conditions)
