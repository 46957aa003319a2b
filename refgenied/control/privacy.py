"""Who may see the content of a private asset's archive: root, the daemon's user, and the asset's owner."""

import os
from contextlib import suppress

import anyio.to_thread

from refgenied.archive.place import Place
from refgenied.control import lookup
from refgenied.control.context import Context
from refgenied.control.peer import Peer
from refgenied.model import Access, ArchiveRecord, PermissionDeniedError
from refgenied.policy import access_now


async def readable_place(context: Context, peer: Peer, path: str) -> Place:
    """The place of the archive with this registry path.

    PermissionDeniedError: it is private, and the peer may not read its files. Other errors as `lookup.find`.
    """
    record, _ = await lookup.find(context, path)
    why_not = await why_hidden(context, peer, record)
    if why_not:
        raise PermissionDeniedError(why_not, hint="archive.publish_private = true opens it to all")
    return context.archive_folder.place(record.key)


async def why_hidden(context: Context, peer: Peer, record: ArchiveRecord) -> str:
    """Why the peer must not see the archive's content; empty when it may."""
    if context.current.settings.archive.publish_private or peer.uid in (0, os.geteuid()):
        return ""
    asset = context.reconciler.look.assets.get(record.key)
    if access_now(record, asset) is not Access.OWNER:
        return ""
    if asset is not None and asset.folder:
        with suppress(OSError):
            owner = await anyio.to_thread.run_sync(os.stat, asset.folder)
            if owner.st_uid == peer.uid:
                return ""
    return f"{record.key.registry_path} is private (some file in it may be read by its owner alone)"
