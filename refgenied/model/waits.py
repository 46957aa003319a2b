"""How long a job waits before its next attempt. Pure functions."""

DAY_SECONDS = 86_400.0
LONGEST_BACK_OFF_SECONDS = 3600.0
"""The most seconds between two attempts at one asset."""
MAX_CRASHES = 3
"""After this many crashes in a row the job waits for days."""
LONGEST_ASIDE_SECONDS = 32 * DAY_SECONDS


def back_off(attempts: int, first: float) -> float:
    """Seconds to wait after this many failed attempts: `first`, then twice as long each time, up to an hour."""
    return min(first * 2.0 ** min(attempts - 1, 30), LONGEST_BACK_OFF_SECONDS)


def aside(crashes: int) -> float:
    """Seconds to wait after the daemon was killed this many times in a row while the job ran.

    None before the third time; then one day, two, four … up to 32.
    """
    if crashes < MAX_CRASHES:
        return 0.0
    return min(DAY_SECONDS * 2.0 ** (crashes - MAX_CRASHES), LONGEST_ASIDE_SECONDS)
