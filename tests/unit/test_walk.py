"""The safe walk: nothing outside the genome folder is read, whatever the tree looks like."""

import os
import random
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refgenied.genomes import walk
from refgenied.genomes.enclosure import Enclosure
from refgenied.genomes.member import Kind, Member
from refgenied.genomes.small_files import open_folder, read_small
from refgenied.genomes.walk import Tree
from refgenied.model import SourceChangedError, UnreadableError, UnsafeTreeError

DIGEST = "e4c17e3f47c39de6855bf677014571ce61f6d38c9313acbe"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")


@contextmanager
def nobody() -> Iterator[None]:
    """For root, who may read everything: somebody who may not."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


@pytest.fixture
def genomes(tmp_path: Path) -> Path:
    root = tmp_path / "genomes"
    root.mkdir()
    return root


@pytest.fixture
def asset(genomes: Path) -> Path:
    folder = genomes / "data" / DIGEST / "fasta" / "default"
    (folder / "_refgenie_build").mkdir(parents=True)
    (folder / "_refgenie_build" / "refgenie_log.md").write_text("log")
    (folder / "a.fa").write_text(">a\nACGT\n")
    return folder


def walked(asset: Path, genomes: Path | None) -> list[Member]:
    with Tree(asset, within=genomes) as tree:
        return list(tree)


def contents(asset: Path, genomes: Path | None) -> dict[bytes, bytes]:
    """Each member's path with what it holds."""
    found = {}
    with Tree(asset, within=genomes) as tree:
        for member in tree:
            if member.kind is Kind.FILE:
                found[member.path] = os.read(tree.open(member), 1 << 20)
            else:
                found[member.path] = b"/" if member.kind is Kind.FOLDER else b"-> " + member.target
    return found


def test_files_folders_and_links_inside(asset: Path, genomes: Path) -> None:
    (asset / "sub").mkdir()
    (asset / "sub" / "x").write_bytes(b"x")
    (asset / "sub" / "up").symlink_to("../a.fa")
    (asset / "b").symlink_to("a.fa")
    assert contents(asset, genomes) == {
        b"": b"/",
        b"a.fa": b">a\nACGT\n",
        b"b": b"-> a.fa",
        b"sub": b"/",
        b"sub/up": b"-> ../a.fa",
        b"sub/x": b"x",
    }


def test_what_a_member_says(asset: Path, genomes: Path) -> None:
    (asset / "a.fa").chmod(0o640)
    member = walked(asset, genomes)[1]
    info = (asset / "a.fa").stat()
    assert member == Member(
        b"a.fa",
        Kind.FILE,
        0o640,
        info.st_size,
        info.st_mtime_ns,
        info.st_ctime_ns,
        info.st_ino,
        b"",
        foreign=False,
    )


@pytest.mark.parametrize("below", ["", "sub"])
def test_absolute_links_to_inside_become_relative(asset: Path, genomes: Path, below: str) -> None:
    (asset / "sub").mkdir()
    (asset / "sub" / "x").write_text("x")
    (asset / below / "la").symlink_to(asset / "a.fa")
    (asset / below / "lx").symlink_to(asset / "sub" / "x")
    (asset / below / "lf").symlink_to(asset / "sub")
    (asset / below / "ltop").symlink_to(asset)
    members = {m.path: m.target for m in walked(asset, genomes) if m.kind is Kind.LINK}
    if below:
        assert members == {
            b"sub/la": b"../a.fa",
            b"sub/lx": b"x",
            b"sub/lf": b".",
            b"sub/ltop": b"..",
        }
    else:
        assert members == {b"la": b"a.fa", b"lx": b"sub/x", b"lf": b"sub", b"ltop": b"."}


def test_absolute_links_written_with_the_configured_or_the_real_path(
    asset: Path, genomes: Path, tmp_path: Path
) -> None:
    configured = tmp_path / "by-another-name"
    configured.symlink_to(genomes)
    (asset / "one").symlink_to(asset / "a.fa")
    (asset / "two").symlink_to(configured / asset.relative_to(genomes) / "a.fa")
    links = {m.path: m.target for m in walked(configured / asset.relative_to(genomes), configured)}
    assert links[b"one"] == links[b"two"] == b"a.fa"


@pytest.mark.parametrize(
    "spelled",
    ["{link}/data/{below}", "{chain}/data/{below}", "{inner}/{below}", "{root}/../link/data/{below}",
     "{root}/./data/{below}", "{link}/../genomes/data/{below}", "/proc/self/cwd/data/{below}",
     "../../../../../link/data/{below}", "../../../../../nowhere/../genomes/data/{below}",
     "../../../../../inner/{below}"],
)  # fmt: skip
def test_every_spelling_that_leads_to_the_genome_folder_is_its_own(
    asset: Path, genomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    monkeypatch.chdir(genomes)
    names = {name: str(tmp_path / name) for name in ("link", "chain", "inner")}
    (tmp_path / "link").symlink_to("genomes")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "inner").symlink_to(genomes / "data")
    (tmp_path / "nowhere").mkdir()
    other = genomes / "data" / DIGEST / "bwa" / "default"
    other.mkdir(parents=True)
    (other / "x").write_text("ex")
    below = f"{DIGEST}/bwa/default/x"
    (asset / "l").symlink_to(spelled.format(**names, root=genomes, below=below))
    (asset / "own").symlink_to(spelled.format(**names, root=genomes, below=f"{DIGEST}/fasta/default/a.fa"))
    found = contents(asset, genomes)
    assert (found[b"l"], found[b"own"]) == (b"ex", b"-> a.fa")


def test_another_mount_of_the_genome_folder_is_the_folder(asset: Path, genomes: Path) -> None:
    """What /proc shows of a folder has its device and inode, and is no link of it by name: as a bind mount."""
    fd = os.open(genomes, os.O_PATH)
    try:
        with Enclosure(genomes) as enclosure:
            inside = enclosure.resolve((), f"/proc/self/fd/{fd}/data/{DIGEST}/fasta/default/a.fa".encode()).parts
        assert inside == (b"data", DIGEST.encode(), b"fasta", b"default", b"a.fa")
    finally:
        os.close(fd)


def test_relative_links_that_leave_the_asset_and_come_back_are_rewritten(asset: Path, genomes: Path) -> None:
    (asset / "l").symlink_to("../default/a.fa")
    (asset / "m").symlink_to("../../../../../genomes/data/" + DIGEST + "/fasta/default/a.fa")
    links = {m.path: m.target for m in walked(asset, genomes)}
    assert links[b"l"] == links[b"m"] == b"a.fa"


def test_a_link_through_refgenies_alias_into_the_asset_stays_a_link(asset: Path, genomes: Path) -> None:
    alias = genomes / "alias" / "hg38" / "fasta" / "default"
    alias.mkdir(parents=True)
    (alias / "hg38.fa").symlink_to(f"../../../../data/{DIGEST}/fasta/default/a.fa")
    (asset / "l").symlink_to(alias / "hg38.fa")
    assert contents(asset, genomes)[b"l"] == b"-> a.fa"


def test_links_elsewhere_in_the_genome_folder_are_replaced_by_content(asset: Path, genomes: Path) -> None:
    other = genomes / "data" / DIGEST / "bwa_index" / "default"
    (other / "_refgenie_build").mkdir(parents=True)
    (other / "deep").mkdir()
    (other / "deep" / "y").write_text("why")
    (other / "x").write_text("ex")
    (other / "to-x").symlink_to("x")
    (asset / "file").symlink_to("../../bwa_index/default/x")
    (asset / "folder").symlink_to(other)
    found = contents(asset, genomes)
    assert found == {
        b"": b"/",
        b"a.fa": b">a\nACGT\n",
        b"file": b"ex",
        b"folder": b"/",
        b"folder/deep": b"/",
        b"folder/deep/y": b"why",
        b"folder/to-x": b"ex",
        b"folder/x": b"ex",
    }
    foreign = {m.path for m in walked(asset, genomes) if m.foreign}
    assert foreign == set(found) - {b"", b"a.fa"}


def test_a_link_into_the_excluded_build_folder_is_replaced_by_content(asset: Path, genomes: Path) -> None:
    (asset / "log").symlink_to("_refgenie_build/refgenie_log.md")
    (asset / "through").symlink_to("_refgenie_build/../a.fa")
    found = contents(asset, genomes)
    assert found[b"log"] == b"log"
    assert found[b"through"] == b"-> a.fa"


def test_alone_a_folder_is_its_own_limit(asset: Path, genomes: Path) -> None:
    (asset / "abs").symlink_to(asset / "a.fa")
    assert contents(asset, None)[b"abs"] == b"-> a.fa"
    (genomes / "out").write_text("out")
    (asset / "out").symlink_to(genomes / "out")
    with pytest.raises(UnsafeTreeError, match="default/out is a link"):
        walked(asset, None)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/etc/passwd", "leads out of"),
        ("../../../../../outside", "leads out of"),
        ("../../../../../../../../../../etc/passwd", "leads out of"),
        ("{genomes}/../outside", "leads out of"),
        ("{genomes}-2/x", "leads out of"),
        ("not-there", "leads nowhere"),
        ("a.fa/x", "leads nowhere"),
        ("bad", "circle"),
        ("round", "circle"),
        ("hop", "leads out of"),
        ("x" * 300, "leads nowhere"),
    ],
)
def test_bad_links_are_refused_by_name(asset: Path, genomes: Path, target: str, says: str) -> None:
    (genomes.parent / "outside").write_text("secret")
    (genomes.parent / "genomes-2").mkdir()
    (genomes.parent / "genomes-2" / "x").write_text("secret")
    (genomes / "hop").symlink_to(genomes.parent / "outside")
    (asset / "round").symlink_to("bad")
    (asset / "hop").symlink_to(genomes / "hop")
    (asset / "bad").symlink_to(target.format(genomes=genomes))
    if target not in {"bad", "round"}:
        (asset / "round").unlink()
    if target != "hop":
        (asset / "hop").unlink()
    with pytest.raises(UnsafeTreeError, match=says) as caught:
        walked(asset, genomes)
    assert f"{asset}/{'bad' if target != 'round' else ''}" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.permanent


@pytest.mark.parametrize("target", ["..", "../..", "../../../..", "{asset}/.."])
def test_a_link_to_a_folder_above_is_refused(asset: Path, genomes: Path, target: str) -> None:
    (asset / "up").symlink_to(target.format(asset=asset))
    with pytest.raises(UnsafeTreeError, match="contains it"):
        walked(asset, genomes)


def test_links_that_multiply_are_refused(asset: Path, genomes: Path) -> None:
    for level in range(12):
        folder = genomes / f"level{level}"
        folder.mkdir()
        (folder / "on").symlink_to(f"../level{level + 1}")
    (genomes / "level12").mkdir()
    (asset / "bomb").symlink_to(genomes / "level0")
    with pytest.raises(UnsafeTreeError, match="links into one another"):
        walked(asset, genomes)


def test_very_deep_folders_are_refused(asset: Path, genomes: Path) -> None:
    (asset / Path(*["d"] * 150)).mkdir(parents=True)
    with pytest.raises(UnsafeTreeError, match="nested deeper"):
        walked(asset, genomes)


def test_fifo_and_socket_are_refused(asset: Path, genomes: Path) -> None:
    os.mkfifo(asset / "pipe")
    with pytest.raises(UnsafeTreeError, match="default/pipe is a FIFO"):
        walked(asset, genomes)
    (asset / "pipe").unlink()
    os.mkfifo(genomes / "pipe")
    (asset / "l").symlink_to(genomes / "pipe")
    with pytest.raises(UnsafeTreeError, match="default/l is a FIFO"):
        walked(asset, genomes)


@as_root
def test_a_device_is_refused(asset: Path, genomes: Path) -> None:
    os.mknod(asset / "null", 0o20666, os.makedev(1, 3))
    with pytest.raises(UnsafeTreeError, match="default/null is a device"):
        walked(asset, genomes)


def test_what_may_not_be_read() -> None:
    with TemporaryDirectory(prefix="genomes-") as name:
        asset = Path(name)
        asset.chmod(0o755)
        (asset / "a.fa").write_text("a")
        (asset / "sub").mkdir(mode=0)
        with nobody(), pytest.raises(UnreadableError, match="sub: Permission denied"):
            walked(asset, None)
        (asset / "sub").chmod(0o755)
        (asset / "a.fa").chmod(0)
        with nobody(), pytest.raises(UnreadableError, match=r"a\.fa: Permission denied"):
            contents(asset, None)


def test_an_asset_outside_or_absent(genomes: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(UnsafeTreeError, match="outside leads out of"):
        walked(outside, genomes)
    (genomes / "l").symlink_to(outside)
    with pytest.raises(UnsafeTreeError, match="leads out of"):
        walked(genomes / "l", genomes)
    with pytest.raises(SourceChangedError, match="is not there"):
        walked(genomes / "none", genomes)
    with pytest.raises(SourceChangedError):
        walked(tmp_path / "no-genomes" / "x", tmp_path / "no-genomes")


def swap(path: Path, how: str, outside: Path) -> None:
    if how == "rewritten":
        path.write_text("other bytes")
    elif how == "longer":
        with path.open("ab") as file:
            file.write(b"more")
    elif how == "gone":
        path.unlink()
    else:
        path.unlink()
        if how == "link":
            path.symlink_to(outside)
        elif how == "fifo":
            os.mkfifo(path)
        elif how == "folder":
            path.mkdir()
        elif how == "twin":
            path.write_text(">a\nACGT\n")


@pytest.mark.parametrize("how", ["rewritten", "longer", "gone", "link", "fifo", "folder", "twin"])
def test_a_file_swapped_between_walk_and_open(asset: Path, genomes: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "outside").write_text("secret")
    with Tree(asset, within=genomes) as tree:
        for member in tree:
            if member.path == b"a.fa":
                swap(asset / "a.fa", how, tmp_path / "outside")
                with pytest.raises(SourceChangedError, match=r"default/a\.fa"):
                    tree.open(member)
                return
    pytest.fail("a.fa was not walked")


@pytest.mark.parametrize("how", ["rewritten", "longer", "gone", "link", "fifo", "folder", "twin"])
def test_a_file_swapped_while_it_is_read(asset: Path, genomes: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "outside").write_text("secret")
    with Tree(asset, within=genomes) as tree:
        members = tree.to_read()
        member = next(member for member in members if member.path == b"a.fa")
        swap(asset / "a.fa", how, tmp_path / "outside")
        assert b"secret" not in os.read(tree.open(member), 100)
        with pytest.raises(SourceChangedError, match=r"default/a\.fa"):
            tree.confirm(member)


@pytest.mark.parametrize("how", ["gone", "link", "fifo", "folder"])
def test_a_file_swapped_between_listing_and_reading(asset: Path, genomes: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "outside").write_text("secret")
    with Tree(asset, within=genomes) as tree:
        members = tree.to_read()
        assert next(members).path == b""
        swap(asset / "a.fa", how, tmp_path / "outside")
        with pytest.raises((SourceChangedError, UnsafeTreeError), match=r"default/a\.fa"):
            list(members)


def test_a_folder_swapped_for_a_link_while_walking(asset: Path, genomes: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("secret")
    (asset / "sub").mkdir()
    (asset / "sub" / "x").write_text("x")
    with Tree(asset, within=genomes) as tree:
        members = iter(tree)
        assert next(members).path == b""
        (asset / "sub").rename(asset.parent / "moved")
        (asset / "sub").symlink_to(tmp_path / "outside")
        with pytest.raises((SourceChangedError, UnsafeTreeError)):
            list(members)


def test_the_whole_asset_replaced_while_walking(asset: Path, genomes: Path) -> None:
    with Tree(asset, within=genomes) as tree:
        members = iter(tree)
        next(members)
        asset.rename(asset.parent / "old")
        asset.mkdir()
        with pytest.raises(SourceChangedError, match="replaced"):
            list(members)


def test_only_the_last_file_can_be_opened_and_descriptors_are_closed(asset: Path, genomes: Path) -> None:
    (asset / "b.fa").write_text("b")
    before = set(Path("/proc/self/fd").iterdir())
    with Tree(asset, within=genomes) as tree:
        members = iter(tree)
        root, first = next(members), next(members)
        with pytest.raises(ValueError, match="last"):
            tree.open(root)
        fd = tree.open(first)
        assert tree.open(first) == fd
        next(members)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        with pytest.raises(ValueError, match="last"):
            tree.open(first)
        del members
    assert set(Path("/proc/self/fd").iterdir()) == before


ODD = [
    b"caf\xe9.fa",
    b"new\nline",
    b"tab\t",
    b" ",
    b"-rf",
    b"\xff" * 255,
    "ü".encode() * 127,
    b"a.fa ",
    b"*?[",
]


def test_odd_names(asset: Path, genomes: Path) -> None:
    for name in ODD:
        Path(os.fsdecode(os.fsencode(asset) + b"/" + name)).write_bytes(name)
    found = contents(asset, genomes)
    assert {name: found[name] for name in ODD} == {name: name for name in ODD}
    Path(os.fsdecode(os.fsencode(asset) + b"/bad\n\xff")).symlink_to(os.fsdecode(b"/\xff\n"))
    with pytest.raises(UnsafeTreeError) as caught:
        walked(asset, genomes)
    assert caught.value.message.isprintable()
    caught.value.message.encode()


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.lists(st.sampled_from([b"a", b"a-", b"a.b", b"a0", b"b", b"\xff"]), min_size=1, max_size=3).map(tuple))
)
def test_the_order_is_that_of_the_names_in_a_tar(tmp_path_factory: pytest.TempPathFactory, paths) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("order"))
    for parts in paths:
        Path(os.fsdecode(root + b"/" + b"/".join(parts))).mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(root + b"/" + b"/".join(parts) + b"/f")).touch()
    members = walked(Path(os.fsdecode(root)), None)
    names = [m.path + b"/" if m.kind is Kind.FOLDER else m.path for m in members[1:]]
    assert names == sorted(names)
    assert len(names) == len(set(names))


def test_it_can_be_tarred_and_read_back(asset: Path, genomes: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    for number in range(40):
        folder = asset / f"d{rng.randrange(5)}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(rng.randbytes(rng.randrange(2000)))
    (asset / "link").symlink_to(asset / "a.fa")
    with tarfile.open(tmp_path / "t.tar", "w") as tar, Tree(asset, within=genomes) as tree:
        for member in tree:
            info = tarfile.TarInfo(os.fsdecode(b"default/" + member.path))
            info.mode, info.size = member.mode, member.size
            info.type = {Kind.FILE: b"0", Kind.FOLDER: b"5", Kind.LINK: b"2"}[member.kind]
            info.linkname = os.fsdecode(member.target)
            if member.kind is Kind.FILE:
                with os.fdopen(os.dup(tree.open(member)), "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    with tarfile.open(tmp_path / "t.tar") as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 (Debian 12) has none
        tar.extractall(tmp_path / "out")  # noqa: S202 (our own)
    assert contents(tmp_path / "out" / "default", None) == contents(asset, genomes)


def test_many_files_in_bounded_memory(tmp_path: Path) -> None:
    for number in range(20_000):
        os.mknod(tmp_path / f"{number:06}")
    tracemalloc.start()
    with Tree(tmp_path) as tree:
        count = sum(1 for _ in tree)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 5_000_000  # about 60 bytes a name in one listing


def test_small_files_are_read_safely(asset: Path, genomes: Path) -> None:
    build = asset / "_refgenie_build"
    (build / "link").symlink_to("/etc/passwd")
    os.mkfifo(build / "pipe")
    with open_folder(build, within=genomes) as fd:
        assert read_small(fd, "refgenie_log.md", 100) == b"log"
        assert read_small(fd, b"refgenie_log.md", 2) == b"lo"
        for name in ("link", "pipe", "none", "."):
            assert read_small(fd, name, 100) is None
    with pytest.raises(UnsafeTreeError), open_folder("/etc", within=genomes):
        pass


def test_a_folder_with_more_names_than_memory_is_for_is_refused(
    asset: Path, genomes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "MAX_NAMES", 5)
    for number in range(6):
        (asset / f"f{number}").touch()
    with pytest.raises(UnsafeTreeError, match="default holds more than 5 names"):
        walked(asset, genomes)
