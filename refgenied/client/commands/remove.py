"""`archive remove`: forgets an archive."""

from refgenied.client.session import Session


def remove(session: Session, *, path: str, delete_file: bool) -> int:
    """Forget an archive; its file stays."""
    found = session.ask("archive.remove", path=path, delete_file=delete_file)
    genome, _, _ = path.partition("/")
    full = f"{genome}/{found['registry_path'].partition('/')[2]}"  # another asset may be the default later
    if found["there"]:
        fate, back = f"its file stays: {found['path']}", f"it comes back with: `refgeniectl archive import {full}`"
    else:
        fate = f"its file is {'deleted' if found['deleted'] else 'gone'}: {found['path']}"
        back = f"only its asset can bring it back: `refgeniectl archive create {full}`"
    return session.tell(found, f"{full}: the archive is forgotten; {fate}", back)
