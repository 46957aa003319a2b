"""What a big asset asks of the daemon: its peak memory, how soon a cancel returns, how quick `status` stays."""

from __future__ import annotations

import time
from pathlib import Path

import house
import inputs
from synthetic import ALIAS

from refgenied.client import Client


def run(data: Path, megabytes: int) -> None:
    with house.lab(data) as made:
        house.fill(made, data, megabytes)
        daemon = made.start()
        with Client.connect(str(made.socket)) as client:
            idle = memory(daemon.process.pid)
            cancelled = cancel(client, f"{ALIAS}/big", made.archives)
            for name in ("many", "big"):
                began = time.monotonic()
                answers = packed(client, f"{ALIAS}/{name}")
                print(
                    f"{name}: {time.monotonic() - began:.1f} s, peak memory so far "
                    f"{memory(daemon.process.pid) / 1e6:.0f} MB (idle {idle / 1e6:.0f}); status while it packs: "
                    f"p50 {quantile(answers, 0.5):.1f} ms, p99 {quantile(answers, 0.99):.1f} ms, "
                    f"max {max(answers):.1f} ms of {len(answers)}"
                )
            print(f"cancel of the big one: {cancelled * 1000:.0f} ms, nothing left")


def cancel(client: Client, path: str, archives: Path) -> float:
    """Seconds from the request until nothing is left of it."""
    job = client.call("archive.create", paths=[path])["results"][0]["job"]
    while not list(archives.rglob("*.partial")):
        time.sleep(0.01)
    time.sleep(1.0)
    began = time.monotonic()
    client.call("job.cancel", job=job)
    while list(archives.rglob("*.partial")):
        time.sleep(0.002)
    return time.monotonic() - began


def packed(client: Client, path: str) -> list[float]:
    """Milliseconds of every `server.info` while one asset is archived."""
    job = client.call("archive.create", paths=[path])["results"][0]["job"]
    answers: list[float] = []
    while True:
        began = time.monotonic()
        client.call("server.info")
        answers.append((time.monotonic() - began) * 1000)
        state = client.call("job.get", job=job)["state"]
        if state == "succeeded":
            return answers
        if state not in ("queued", "running"):
            raise inputs.Missing(f"the job ended as {state}")
        time.sleep(0.02)


def memory(pid: int) -> int:
    """Peak resident bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
