"""`archive restore`: works without the daemon, with the caller's rights. The daemon only says where the archive is."""

import os

from refgenied.client import draw, interrupt, words
from refgenied.client.session import DAMAGED, REFUSED, Session
from refgenied.shared import output


def restore(session: Session, *, path: str, to: str, file: list[str], most: int | None, leave_out_stray: bool) -> int:
    """Extract an archive and prove the files."""
    archive = _archive(session, path)
    from refgenied import archive as library  # noqa: PLC0415 - only this command needs it
    from refgenied.model import DamagedArchiveError, RefgeniedError  # noqa: PLC0415
    from refgenied.shared.progress import Meter  # noqa: PLC0415

    meter = Meter()
    stopped = "nothing was restored, and nothing is left"
    try:
        with interrupt.told(stopped), draw.progress(f"restore {path}", quiet=session.json) as show:
            done = library.restore(
                archive,
                to,
                file,
                most=most,
                leave_out_stray=leave_out_stray,
                on_progress=lambda phase, at, total: show(meter.reading(phase, at, total).message()),
            )
    except RefgeniedError as error:
        damaged = isinstance(error, DamagedArchiveError)
        way_out = f"refgeniectl archive verify {path}" if damaged and not os.path.isfile(path) else ""
        output.complain("refgeniectl", error.message, error.hint or way_out, kind=error.kind)
        return DAMAGED if damaged else REFUSED
    row = {"folder": str(done.folder), "files": done.files, "size": done.size, "proved": done.proved}
    lines = [f"{done.folder}: {words.several(done.files, 'file')}, {words.size(done.size)}, {_proof(done.proved)}"]
    lines += [f"left out, a link that leads out of the asset: {link}" for link in done.left_out]
    if done.cleared:
        lines.append(f"cleared away what a killed restore had left there: {words.size(done.cleared)}")
    return session.tell(row | {"left_out": done.left_out, "cleared": done.cleared}, *lines)


def _archive(session: Session, path: str) -> str:
    """The path of the archive: the given path, or the path that the daemon knows."""
    if os.path.isfile(path) or path.endswith((".tgz", ".tar.gz")):
        return path
    return session.ask("archive.get", path=path, removed=True)["archive"]["path"]


def _proof(proved: bool) -> str:  # noqa: FBT001
    if proved:
        return "every byte proved"
    return "not proved: there is no manifest beside the archive, only gzip's checksums were compared"
