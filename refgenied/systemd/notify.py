"""Messages to systemd (sd_notify(3)). If systemd did not start this process, nothing is sent."""

import os
import socket
import time

from refgenied.shared.output import spelled


def notify(*assignments: str) -> None:
    """Send `READY=1`, `STOPPING=1`, `STATUS=…` to $NOTIFY_SOCKET, all in one message.

    A lost message is not an error. The call never waits for a reader, because it runs on the event loop.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(map(spelled, assignments)).encode(), socket.MSG_DONTWAIT, address)
    except OSError:
        return


def reloading() -> None:
    """Say that a reload has begun; `READY=1` must follow. The time tells systemd that this is not an older reload."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_seconds() -> float | None:
    """systemd kills this process after this long without `WATCHDOG=1`; None: never."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 1e6 or None


def unit() -> str:
    """The unit whose sandbox holds this process (`Environment=REFGENIED_UNIT=%n`); empty when there is none."""
    return os.environ.get("REFGENIED_UNIT", "")
