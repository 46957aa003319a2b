"""`archive restore`: done here, with the caller's rights; the daemon only tells where the archive is."""

from __future__ import annotations

import os
from argparse import Namespace

from refgenied.client import Json, draw, interrupt, words
from refgenied.client.cli import DAMAGED, DONE, REFUSED
from refgenied.client.silence import reached
from refgenied.shared import output


def restore(arguments: Namespace) -> int:
    archive = _archive(arguments)
    from refgenied import archive as library  # noqa: PLC0415 - the only command that needs it
    from refgenied.model import DamagedArchiveError, RefgeniedError  # noqa: PLC0415
    from refgenied.shared.progress import Meter  # noqa: PLC0415

    label = f"restore {arguments.path}"
    meter = Meter()
    try:
        stopped = "nothing was restored, and nothing is left"
        with interrupt.told(lambda: stopped), draw.progress(label, quiet=arguments.json) as show:
            done = library.restore(
                archive,
                arguments.to,
                arguments.file,
                most=arguments.most,
                leave_out_stray=arguments.leave_out_stray,
                on_progress=lambda phase, at, total: show(meter.reading(phase, at, total)),
            )
    except RefgeniedError as error:
        output.complain("refgeniectl", error.message, error.hint or _hint(arguments, error), kind=error.kind)
        return DAMAGED if isinstance(error, DamagedArchiveError) else REFUSED
    if arguments.json:
        row = {"folder": str(done.folder), "files": done.files, "size": done.size, "proved": done.proved}
        output.print_json(row | {"left_out": done.left_out, "cleared": done.cleared})
        return DONE
    output.say(f"{done.folder}: {words.several(done.files, 'file')}, {words.size(done.size)}, {_proof(done.proved)}")
    for link in done.left_out:
        output.say(f"left out, a link that leads out of the asset: {link}")
    if done.cleared:
        output.say(f"cleared away what a killed restore had left there: {words.size(done.cleared)}")
    return DONE


def _archive(arguments: Namespace) -> str:
    """The path of the archive: as given, or as the daemon knows it."""
    if os.path.isfile(arguments.path) or arguments.path.endswith((".tgz", ".tar.gz")):
        return arguments.path
    with reached(arguments.socket) as client:
        found: Json = client.call("archive.get", path=arguments.path, removed=True)
    return found["archive"]["path"]


def _proof(proved: bool) -> str:  # noqa: FBT001
    if proved:
        return "every byte proved"
    return "not proved: there is no manifest beside the archive, only gzip's checksums were compared"


def _hint(arguments: Namespace, error: Exception) -> str:
    damaged = getattr(error, "kind", "") == "archive_damaged"
    return f"refgeniectl archive verify {arguments.path}" if damaged and not os.path.isfile(arguments.path) else ""
