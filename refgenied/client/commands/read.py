"""`archive cat`: writes one file of an archive to stdout. The daemon reads it, part by part."""

import sys
from binascii import a2b_base64

from refgenied.client import ClientError
from refgenied.client.session import DAMAGED, DONE, Session, complain


def cat(session: Session, *, path: str, file: str) -> int:
    """Write one file of an archive to stdout."""
    import hashlib  # noqa: PLC0415 (this takes 3 ms, and the other commands of the group do not need it)

    md5 = hashlib.md5(usedforsecurity=False)
    start = 0
    while True:
        part = session.ask("archive.read", path=path, file=file, start=start)
        data = a2b_base64(part["data"])
        md5.update(data)
        sys.stdout.buffer.write(data)
        start += len(data)
        if start >= part["size"] or not data:
            break
    sys.stdout.buffer.flush()
    if start == part["size"] and part["md5"] in ("", md5.hexdigest()):
        return DONE
    told = f"{file}: the written bytes differ from the packed file (md5 {md5.hexdigest()}, not {part['md5']})"
    complain(ClientError(told, f"refgeniectl archive verify {path}"))
    return DAMAGED
