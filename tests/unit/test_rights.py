"""What only its owner may read is archived for nobody else: permission bits, the served config, reports."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import yaml
from controlled import ANN as ORDERING
from controlled import Desk, context_of
from packing import FOLDER, below, make_tree, publish
from parts import running
from synthetic import ALIAS, DIGEST, Genomes
from transactions import transaction

from refgenied.archive.format import entries
from refgenied.archive.place import Place
from refgenied.archive.publisher import remove
from refgenied.model import Access, AssetKey, Requester

pytestmark = pytest.mark.anyio
ANN = Requester("ann", 1, 2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def everyday_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def modes(place: Place) -> tuple[str, str, str]:
    return mode(place.folder), mode(place.archive), mode(place.manifest)


@pytest.mark.parametrize(
    ("bits", "of_file", "of_folder"),
    [
        (0o644, Access.EVERYONE, Access.OWNER),  # a folder must be entered, too
        (0o755, Access.EVERYONE, Access.EVERYONE),
        (0o640, Access.GROUP, Access.OWNER),
        (0o750, Access.GROUP, Access.GROUP),
        (0o711, Access.OWNER, Access.OWNER),
        (0o600, Access.OWNER, Access.OWNER),
        (0o700, Access.OWNER, Access.OWNER),
        (0o604, Access.OWNER, Access.OWNER),  # the group is kept out: not everyone
        (0o2775, Access.EVERYONE, Access.EVERYONE),
    ],
)
def test_who_may_read(bits: int, of_file: Access, of_folder: Access) -> None:
    assert (Access.of(bits, folder=False), Access.of(bits, folder=True)) == (of_file, of_folder)


def test_the_narrowest_counts() -> None:
    assert Access.EVERYONE.narrowed(Access.GROUP).narrowed(Access.OWNER) is Access.OWNER
    assert [access.folder_mode for access in Access] == [0o755, 0o750, 0o700]


@pytest.mark.parametrize(
    ("odd", "bits", "expected"),
    [
        ("plain", 0o644, ("0755", "0644", "0644")),
        ("plain", 0o640, ("0750", "0640", "0640")),
        ("plain", 0o600, ("0700", "0600", "0600")),
        ("below", 0o700, ("0700", "0600", "0600")),
        ("below", 0o750, ("0750", "0640", "0640")),
        ("below/deep", 0o600, ("0700", "0600", "0600")),
        ("", 0o700, ("0700", "0600", "0600")),
    ],
)
def test_an_archive_has_the_rights_of_the_most_private_member(tmp_path: Path, odd, bits, expected) -> None:
    source = make_tree(tmp_path / "default", {b"plain": b"x", b"below": FOLDER, b"below/deep": b"y", b"link": "plain"})
    (source / odd).chmod(bits)
    draft = publish(source, tmp_path / "archives")
    assert modes(draft.place) == expected
    remove(draft.place, at=1.0, by="ann", stamp="", delete_file=False)  # writes the manifest anew
    assert modes(draft.place) == expected


def test_a_long_list_of_members_is_as_private(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "default", {b"%04d" % i: b"" for i in range(1200)})
    (source / "0700").chmod(0o600)
    draft = publish(source, tmp_path / "archives")
    assert mode(draft.place.entries) == "0600"


def test_nothing_is_readable_before_it_is_whole(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "default", {b"secret": b"x" * 3_000_000})
    (source / "secret").chmod(0o600)
    seen: set[str] = set()

    def check() -> None:
        seen.update(mode(tmp_path / "archives" / name) for name in below(tmp_path / "archives") if "partial" in name)

    publish(source, tmp_path / "archives", check=check)
    assert seen == {"0600"}


def test_a_rebuild_with_other_rights_gives_them_to_the_folder_too(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "default", {b"x": b"x"})
    place = publish(source, tmp_path / "archives").place
    (source / "x").chmod(0o600)
    publish(source, tmp_path / "archives")
    assert modes(place) == ("0700", "0600", "0600")
    (source / "x").chmod(0o644)
    publish(source, tmp_path / "archives")
    assert modes(place) == ("0755", "0644", "0644")


def test_a_daemon_with_a_tight_umask_gives_nothing_more(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "default", {b"x": b"x"})
    os.umask(0o077)
    place = publish(source, tmp_path / "archives").place
    assert modes(place) == ("0700", "0600", "0600")


def served(genomes: Genomes) -> set[str]:
    tree = yaml.safe_load((genomes.root.parent / "archives" / "genome_config.yaml").read_text())
    return set(tree["genomes"].get(DIGEST, {}).get("assets", {}))


def flat(genomes: Genomes) -> list[str]:
    return sorted(path.name for path in (genomes.root.parent / "archives" / DIGEST).iterdir() if path.is_file())


async def test_a_private_asset_is_archived_for_its_owner_and_not_served(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    public, private, grouped = genomes.build("public"), genomes.build("private"), genomes.build("grouped")
    genomes.folder(private).chmod(0o700)
    for path in (genomes.folder(grouped), *genomes.folder(grouped).rglob("*")):
        path.chmod(0o750 if path.is_dir() else 0o640)
    async with running(genomes) as parts:
        await parts.settle()
        await parts.catalog.refresh()
        place = {key: Place(tmp_path / "archives", key) for key in (public, private, grouped)}
        assert modes(place[private]) == ("0700", "0600", "0600")
        assert modes(place[grouped]) == ("0750", "0640", "0640")
        assert modes(place[public]) == ("0755", "0644", "0644")
        assert served(genomes) == {"public", "grouped"}
        names = flat(genomes)
        assert not [name for name in names if "private" in name]
        folder = tmp_path / "archives" / DIGEST
        assert {mode(folder / name) for name in names if "grouped" in name} == {"0640"}
        left_out = parts.catalog.served.left_out
        assert any("private" in line and "archive.publish_private" in line for line in left_out), left_out
        assert await parts.rights.check() == []

        parts.change_settings(publish_private=True)
        await parts.rights.check()
        await parts.catalog.refresh()
        assert modes(place[private]) == ("0755", "0644", "0644")
        assert served(genomes) == {"public", "grouped", "private"}

        parts.change_settings(publish_private=False)
        await parts.catalog.refresh()
        assert served(genomes) == {"public", "grouped"}
        assert not [name for name in flat(genomes) if "private" in name]
        assert [given.key for given in await parts.rights.check()] == [private]


async def test_a_folder_above_the_asset_that_only_its_owner_may_enter_counts(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    (genomes.root / "data" / DIGEST).chmod(0o700)
    async with running(genomes) as parts:
        await parts.settle()
        assert modes(Place(tmp_path / "archives", key)) == ("0700", "0600", "0600")
        record = await parts.record(key)
        assert record
        assert record.access is Access.OWNER


async def test_an_archive_is_opened_when_the_folder_above_its_asset_is(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    above = genomes.root / "data" / DIGEST
    above.chmod(0o700)
    async with running(genomes) as parts, anyio.create_task_group() as group:
        await parts.settle()
        parts.reconciler.first_look.set()
        group.start_soon(parts.rights.run)
        place = Place(tmp_path / "archives", key)
        assert modes(place) == ("0700", "0600", "0600")
        above.chmod(0o755)
        with anyio.fail_after(10):
            while modes(place) != ("0755", "0644", "0644"):
                await parts.reconciler.look_again()
        group.cancel_scope.cancel()


async def opened_before(genomes: Genomes, tmp_path: Path) -> AssetKey:
    """An archive as version 0.1 made it: readable by everyone, its access unknown."""
    key = genomes.build()
    (genomes.folder(key) / "fasta").chmod(0o600)
    async with running(genomes) as parts:
        await parts.settle()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET access = NULL", ())
    place = Place(tmp_path / "archives", key)
    for path in (place.archive, place.manifest):
        path.chmod(0o644)
    place.folder.chmod(0o755)
    return key


@pytest.mark.parametrize("asset_is_there", [True, False])
async def test_archives_made_before_are_reported_and_tightened_only_when_told(tmp_path: Path, asset_is_there) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = await opened_before(genomes, tmp_path)
    place = Place(tmp_path / "archives", key)
    if not asset_is_there:
        genomes.remove(key)
    async with running(genomes) as parts:
        await parts.settle()
        wide = await parts.rights.check()
        assert [given.key for given in wide] == [key]
        line = parts.health.conditions["access"][0]
        assert "1 archive can be read by more people" in line
        assert "archive protect" in line
        assert modes(place) == ("0755", "0644", "0644")

        done = await parts.rights.protect(None, ANN)
        (given,) = done
        assert (given.before, given.access, given.changed) == (Access.EVERYONE, Access.OWNER, True)
        assert modes(place) == ("0700", "0600", "0600")
        assert "access" not in parts.health.conditions
        assert [event.kind for event in await parts.events("archive.protected")] == ["archive.protected"]
        assert await parts.rights.protect(None, ANN) == []


async def test_what_is_inside_a_private_archive_is_told_to_its_owner_alone(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    genomes.folder(key).chmod(0o700)
    path = f"{ALIAS}/fasta"
    async with running(genomes) as parts:
        await parts.settle()
        context = context_of(parts)
        member = Desk(context, replace(ORDERING, uid=1003))
        owner = Desk(context, replace(ORDERING, uid=genomes.folder(key).stat().st_uid))
        for verb, params in (("archive.read", {"file": "fasta"}), ("archive.files", {})):
            await owner.ask(verb, path=path, **params)
            refused = await member.refused(verb, path=path, **params)
            assert refused["data"]["kind"] == "permission_denied"
            assert "is private" in refused["message"]
        assert (await owner.ask("archive.get", path=path))["contents"]
        shown = await member.ask("archive.get", path=path)
        assert (shown["contents"], shown["archive"]["access"]) == (None, "owner")
        assert "is private" in shown["problem"]


@pytest.mark.parametrize("how", ["recovered", "imported", "brought back"])
async def test_an_archive_with_a_long_list_of_members_is_as_private_when_its_asset_is_gone(
    tmp_path: Path, monkeypatch, how
) -> None:
    monkeypatch.setattr(entries, "MAX_INLINE_ENTRIES", 1)
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    for path in genomes.folder(key).iterdir():
        if path.is_file():
            path.chmod(0o600)
    async with running(genomes) as parts:
        await parts.settle()
        assert (await parts.record(key)).access is Access.OWNER
    genomes.remove(key)
    if how == "imported":
        (tmp_path / "archives").rename(tmp_path / "old")
    async with running(genomes, "another state") as parts:
        if how == "imported":
            await parts.bring(tmp_path / "old")
        elif how == "brought back":
            desk = Desk(context_of(parts))
            await desk.ask("archive.remove", path=key.registry_path)
            await desk.ask("archive.import", path=key.registry_path)
        assert (await parts.record(key)).access is Access.OWNER
        await parts.reconciler.look_again()
        await parts.catalog.refresh()
        assert served(genomes) == set()


async def test_what_was_shown_before_a_rebuild_made_the_asset_private_is_shown_no_more(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    async with running(genomes) as parts:
        await parts.settle()
        await parts.catalog.refresh()
        assert "fasta__default.tgz" in flat(genomes)
        genomes.build(fasta=b"another content")
        genomes.folder(key).chmod(0o700)
        await parts.settle()
        await parts.catalog.refresh()
        assert served(genomes) == set()
        assert [name for name in flat(genomes) if "fasta" in name] == []


async def test_what_rights_have_learned_reaches_the_catalog_without_a_full_look(tmp_path: Path) -> None:
    """An archive of refgenied 0.1, whose record does not say who may read it; its asset is gone."""
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build()
    for path in genomes.folder(key).iterdir():
        if path.is_file():
            path.chmod(0o600)
    async with running(genomes) as parts:
        await parts.settle()
        genomes.remove(key)
        await parts.reconciler.look_again()
        async with transaction(parts.store) as tx:
            await tx.execute("UPDATE archive SET access = NULL")
        await parts.catalog.refresh()
        assert served(genomes) == {"fasta"}
        await parts.rights.check()
        assert (await parts.record(key)).access is Access.OWNER
        await parts.catalog.catch_up()
        assert served(genomes) == set()
        assert [name for name in flat(genomes) if "fasta" in name] == []


async def test_who_closes_an_asset_hears_of_its_open_archive_at_the_next_look(tmp_path: Path) -> None:
    genomes = Genomes(tmp_path / "genomes")
    key = genomes.build(a=b"1")
    async with running(genomes) as parts, anyio.create_task_group() as group:
        await parts.settle()
        parts.reconciler.first_look.set()
        group.start_soon(parts.rights.run)
        await anyio.wait_all_tasks_blocked()
        assert "access" not in parts.health.conditions
        genomes.folder(key).parent.chmod(0o700)  # the asset itself is as it was: no job makes its archive anew
        await parts.reconciler.look_again()
        await parts.health.ill("access")
        group.cancel_scope.cancel()
