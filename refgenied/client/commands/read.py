"""`archive cat`: one file of an archive to stdout, range by range, through the daemon."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from binascii import a2b_base64

from refgenied.client import Client, ClientError, Json
from refgenied.client.cli import DAMAGED, DONE, complain


def cat(client: Client, arguments: Namespace) -> int:
    md5 = hashlib.md5(usedforsecurity=False)
    start = 0
    while True:
        part: Json = client.call("archive.read", path=arguments.path, file=arguments.file, start=start)
        data = a2b_base64(part["data"])
        md5.update(data)
        sys.stdout.buffer.write(data)
        start += len(data)
        if start >= part["size"] or not data:
            break
    sys.stdout.buffer.flush()
    if start != part["size"] or (part["md5"] and md5.hexdigest() != part["md5"]):
        complain(
            ClientError(
                f"{arguments.file}: what was written is not what was packed (md5 {md5.hexdigest()}, not {part['md5']})",
                f"refgeniectl archive verify {arguments.path}",
            )
        )
        return DAMAGED
    return DONE
