"""The app of `refgenied serve`, the real refgenieserver in it: what HTTP allows and forbids, odd names, odd configs."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from asgi import Answer, ask
from synthetic import DIGEST

from refgenied.genomes.refgenie0 import CONFIG_NAME
from refgenied.serve.delivery import spans_of
from refgenied.serve.edition_reader import EditionReader
from refgenied.serve.follower import Follower
from refgenied.serve.middleware import Traffic
from refgenied.serve.spool import Spool

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.needs("refgenieserver"),
    pytest.mark.filterwarnings("ignore:Duplicate Operation ID"),
]

OTHER = "e2" * 24
CONTENT = random.Random(7).randbytes(1000)
MD5 = hashlib.md5(CONTENT).hexdigest()
ARCHIVE = f"/v3/assets/archive/{DIGEST}/fasta"


def genome(alias: str) -> dict[str, Any]:
    tag = {
        "asset_path": "fasta",
        "asset_digest": "d" * 32,
        "archive_digest": MD5,
        "asset_size": "1.00 B",
        "archive_size": "1000.00 B",
        "seek_keys": {"fasta": "x.fa"},
        "asset_parents": [f"{'0' * 48}/gone:default"],
        "asset_children": [],
    }
    group = {"asset_description": "", "default_tag": "default", "tags": {"default": tag}}
    return {"aliases": [alias], "genome_description": "", "assets": {"fasta": group}}


def config() -> dict[str, Any]:
    return {"config_version": 0.4, "genome_folder": "/n", "genomes": {DIGEST: genome("t7"), OTHER: genome("t8")}}


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for digest in (DIGEST, OTHER):
            (folder / digest).mkdir()
            (folder / digest / "fasta__default.tgz").write_bytes(CONTENT)
            (folder / digest / "asset_dir_contents_fasta__default.json").write_text('["a"]')
            (folder / digest / "build_recipe_fasta__default.json").write_text("{}")
            (folder / digest / "build_log_fasta__default.md").write_text("log")
        self._write(config())
        self.follower = Follower(folder)
        self.shelf = self.follower.shelf

    @asynccontextmanager
    async def open(self, state: Path) -> AsyncGenerator[None]:
        """With downloads counted in a spool of its own, which no daemon takes."""
        self.take(config())
        self.spool = Spool(state, str(state / "no-socket"))
        self.spool.open()
        self.app = Traffic(self.follower, self.spool)
        async with anyio.create_task_group() as group:
            group.start_soon(self.spool.run)
            yield
            group.cancel_scope.cancel()
        await self.spool.flush()

    def _write(self, tree: dict[str, Any]) -> None:
        (self.folder / CONFIG_NAME).write_text(yaml.safe_dump(tree, allow_unicode=True))

    def take(self, tree: dict[str, Any]) -> None:
        self._write(tree)
        self.shelf.put(EditionReader(self.folder).read(patient=False))

    def routes(self) -> list[str]:
        paths = [path for path in refgenieserver_paths() if not path.startswith("/v3")]  # they are those at the root
        return [*paths, "/nothing/{asset}"]


def refgenieserver_paths() -> list[str]:
    import sys  # noqa: PLC0415 - its module is another after each build

    return list(sys.modules["refgenieserver.main"].app.openapi()["paths"])  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
async def site(one_site: Site, tmp_path: Path) -> AsyncGenerator[Site]:
    async with one_site.open(tmp_path):
        yield one_site


# --------------------------------------------------------------------- what HTTP says


async def test_head_is_a_get_without_the_body_and_counts_nothing(site: Site) -> None:
    names = {"genome": DIGEST, "asset": "fasta", "tag": "default", "seek_key": "fasta", "alias": "t7"}
    for route in site.routes():
        path = route.format(**(names | {"genome": "t7" if route.startswith(("/v1", "/v2")) else DIGEST}))
        got, head = await ask(site.app, path), await ask(site.app, path, "HEAD")
        assert (head.status, head.body) == (got.status, b""), path
        assert head.headers == {name: text for name, text in got.headers.items() if name != "x-accel-buffering"}, path
    counted = site.spool.waiting
    head = await ask(site.app, ARCHIVE, "HEAD", range="bytes=0-9")
    assert (head.status, head.headers["content-length"], head.headers["accept-ranges"]) == (200, "1000", "bytes")
    assert site.spool.waiting == counted
    assert (await ask(site.app, ARCHIVE, "POST")).headers["allow"] == "GET, HEAD"


async def test_whoever_has_the_file_is_told_so_and_not_counted(site: Site) -> None:
    first = await ask(site.app, ARCHIVE)
    assert (first.status, first.body, first.headers["etag"]) == (200, CONTENT, f'"{MD5}"')
    assert site.spool.waiting == 1
    again = await ask(site.app, ARCHIVE, if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert "content-length" not in again.headers
    assert site.spool.waiting == 1


async def test_a_whole_address_is_a_path_too(site: Site) -> None:
    assert (await ask(site.app, f"http://some.where:80{ARCHIVE}")).body == CONTENT


async def test_ranges_of_other_files_are_passed_over(site: Site) -> None:
    for asked in ("lines=0-1", "bytes=5-1", "bytes=0-1", "bytes=99-"):
        answer = await ask(site.app, f"/v3/assets/log/{DIGEST}/fasta", range=asked)
        assert (answer.status, answer.body) == (200, b"log")


MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
LATER = formatdate(4_000_000_000, usegmt=True)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": f'"x", W/"{MD5}"'}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": '"x"', "if_modified_since": LATER}, 200),
        ({"if_none_match": "garbage"}, 200),
        ({"if_match": f'"{MD5}"'}, 200),
        ({"if_match": f'W/"{MD5}"'}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_match": "*"}, 200),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": MODIFIED}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "Wed, 99 Jan 9999999 00:00:00 GMT"}, 200),
        ({"if_unmodified_since": MODIFIED}, 412),
        ({"if_unmodified_since": LATER}, 200),
        ({"if_match": f'"{MD5}"', "if_unmodified_since": MODIFIED}, 200),
        ({"range": "bytes=0-9", "if_range": f'"{MD5}"'}, 206),
        ({"range": "bytes=0-9", "if_range": f'W/"{MD5}"'}, 200),
        ({"range": "bytes=0-9", "if_range": '"x"'}, 200),
        ({"range": "bytes=0-9", "if_range": MODIFIED}, 200),
        ({"range": "bytes=0-9", "if_none_match": f'"{MD5}"'}, 304),
        ({"range": "bytes=5000-"}, 416),
        ({"range": "bytes=-0"}, 416),
        ({"range": "bytes=0-9,5000-"}, 206),
        ({"range": "bytes=9-0"}, 200),
        ({"range": "lines=0-9"}, 200),
        ({"range": "bytes"}, 200),
        ({"range": "BYTES=0-9"}, 206),
    ],
)
async def test_conditions_and_ranges(site: Site, fields: dict[str, str], status: int) -> None:
    answer = await ask(site.app, ARCHIVE, **fields)
    assert answer.status == status
    expected = {200: CONTENT, 206: CONTENT[:10]}.get(status, b"")
    assert answer.body == expected
    if status in (200, 206):
        assert answer.headers["content-length"] == str(len(expected))
    if status == 206:
        assert answer.headers["content-range"] == "bytes 0-9/1000"
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1000"
    assert site.spool.waiting == (status == 200)


async def test_a_field_that_comes_twice_is_one_list(site: Site) -> None:
    twice = {"if_none_match": '"x"', "If_None_Match": f'"{MD5}"'}
    assert (await ask(site.app, ARCHIVE, **twice)).status == 304


@pytest.mark.parametrize("digest", ["a b", 'a"b', "a\r\nX: y", "\u4e2d", "x" * 500])
async def test_whatever_a_config_has_as_digest_is_an_entity_tag(site: Site, digest: str) -> None:
    tree = config()
    tree["genomes"][DIGEST]["assets"]["fasta"]["tags"]["default"]["archive_digest"] = digest
    site.take(tree)
    answer = await ask(site.app, ARCHIVE)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["etag"].isprintable()
    assert (await ask(site.app, ARCHIVE, if_none_match=answer.headers["etag"])).status == 304


async def test_if_range_takes_the_files_own_date(site: Site) -> None:
    date = (await ask(site.app, ARCHIVE, "HEAD")).headers["last-modified"]
    assert (await ask(site.app, ARCHIVE, range="bytes=0-9", if_range=date)).status == 206


async def test_several_ranges_are_several_parts(site: Site) -> None:
    answer = await ask(site.app, ARCHIVE, range="bytes=990-, 0-9, -3")
    assert answer.status == 206
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert len(answer.body) == int(answer.headers["content-length"])
    parts = answer.body.split(f"--{boundary}".encode())
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    bodies = [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts[1:-1]]
    assert bodies == [CONTENT[:10], CONTENT[990:]], "what overlaps was merged"


@pytest.mark.parametrize(
    ("asked", "spans"),
    [
        ("bytes=0-", [(0, 10)]),
        ("bytes=3-5", [(3, 6)]),
        ("bytes=-4", [(6, 10)]),
        ("bytes=-40", [(0, 10)]),
        ("bytes=5-4000", [(5, 10)]),
        ("bytes= 3-5 ,\t7-7", [(3, 6), (7, 8)]),
        ("bytes=7-7,3-5", [(7, 8), (3, 6)]),
        ("bytes=,0-0,,", [(0, 1)]),
        ("bytes=0-2,3-5", [(0, 6)]),
        ("bytes=10-", []),
        ("bytes=20-30,40-", []),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=\u0661-\u0662", None),
        ("bytes=+1-2", None),
        ("bytes=1-2-3", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 400, 2)), None),
    ],
)
def test_what_a_range_means(asked: str, spans: list[tuple[int, int]] | None) -> None:
    assert spans_of(asked, 10) == spans


# --------------------------------------------------------------------- odd names


ODD = ("%00", "..", "%0d%0aX:%20y", "%ff", "é", "{x}", "a" * 5000, "__class__", "items", "*", "default.tgz", "t7")


async def test_no_name_is_answered_with_a_fault_of_the_server(site: Site) -> None:
    faults: list[tuple[str, int]] = []
    for route in site.routes():
        old = route.startswith(("/v1", "/v2"))
        good = {
            "genome": "t7" if old else DIGEST,
            "asset": "fasta",
            "tag": "default",
            "seek_key": "fasta",
            "alias": "t7",
        }
        good["alias"] = "t7"
        paths = [route.format(**(good | {name: odd})) for name in good if f"{{{name}}}" in route for odd in ODD]
        paths += [f"{route.format(**good)}?{name}={odd}" for name in ("tag", "remoteClass") for odd in ODD]
        for path in paths:
            status = (await ask(site.app, path)).status
            if status >= 500:
                faults.append((path, status))
    assert not faults


async def test_side_files_of_what_is_not_served_are_not_there(site: Site) -> None:
    for name in ("asset_dir_contents_bwa__default.json", "build_recipe_bwa__default.json", "build_log_bwa__default.md"):
        (site.folder / DIGEST / name).write_text("[]")
    for what in ("dir_contents", "recipe", "log"):
        assert (await ask(site.app, f"/v3/assets/{what}/{DIGEST}/bwa")).status == 404
        assert (await ask(site.app, f"/v3/assets/{what}/{DIGEST}/fasta")).status == 200


async def test_a_side_file_that_is_not_json_is_not_there(site: Site) -> None:
    path = site.folder / DIGEST / "asset_dir_contents_fasta__default.json"
    good = path.read_text()
    for odd in ("{", "", "[" * 100_000, "\0"):
        path.write_text(odd)
        assert (await ask(site.app, f"/v3/assets/dir_contents/{DIGEST}/fasta")).status == 404, odd[:10]
        assert (await ask(site.app, f"/v3/assets/splash/{DIGEST}/fasta")).status == 200
    path.write_text(good)


# --------------------------------------------------------------------- odd configs


def odd_configs() -> list[tuple[str, dict[str, Any]]]:
    """One odd value each, in the other genome."""
    found: list[tuple[str, dict[str, Any]]] = []
    values: list[object] = [None, 5, "x", [None], {"a": ["b"]}]
    slots: list[tuple[str, ...]] = [(), ("aliases",), ("genome_description",), ("genome_digest",), ("assets",)]
    slots += [("assets", "fasta", *more) for more in ((), ("asset_description",), ("default_tag",), ("tags",))]
    tag = ("assets", "fasta", "tags", "default")
    slots += [tag, *((*tag, key) for key in genome("x")["assets"]["fasta"]["tags"]["default"])]
    for slot in slots:
        for value in values:
            tree = config()
            _put(tree["genomes"], (OTHER, *slot), value)
            found.append((f"{'.'.join(slot)}={value!r}", tree))
    for name in ("remotes", "genome_servers", "genome_folder"):
        found += [(f"{name}={value!r}", config() | {name: value}) for value in values]
    found.append(("shared", {**config(), "genomes": {DIGEST: genome("t7"), OTHER: genome("t7")}}))
    found.append(("digest", {**config(), "genomes": {DIGEST: genome("t7"), OTHER: genome(DIGEST)}}))
    return found


def _put(tree: dict[str, Any], slot: tuple[str, ...], value: object) -> None:
    for name in slot[:-1]:
        tree = tree[name]
    tree[slot[-1]] = copy.deepcopy(value)


SEEN_BY_ALL = ("/", "/v1/", "/assets/list", "/_private_api/genomes/dict", f"/assets/splash/{DIGEST}/fasta")


async def test_one_odd_value_breaks_no_answer(site: Site) -> None:
    faults: list[tuple[str, str, Answer]] = []
    for what, tree in odd_configs():
        site.take(tree)
        for path in (*SEEN_BY_ALL, f"/assets/splash/{OTHER}/fasta", f"/genomes/splash/{OTHER}"):
            answer = await ask(site.app, path)
            if answer.status not in ((200, 404) if OTHER in path else (200,)):
                faults.append((what, path, answer))
    assert [(what, path, answer.status) for what, path, answer in faults] == []


async def test_a_shared_alias_leads_to_one_genome_and_is_said(site: Site) -> None:
    site.take({**config(), "genomes": {DIGEST: genome("t7"), OTHER: genome("t7")}})
    listed = json.loads((await ask(site.app, "/v3/assets/list")).body)
    assert sorted(listed) == [DIGEST, OTHER]
    assert (await ask(site.app, "/v3/genomes/genome_digest/t7")).body.decode() == DIGEST
    assert "its alias t7 belongs to another genome" in site.shelf.current.mended[0]


# --------------------------------------------------------------------- lists


LISTS = ("/v3/assets/list", "/assets/list?includeSeekKeys=True", "/v1/assets", "/v2/assets", "/v2/genomes")


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_is_made_once_for_each_edition(site: Site, path: str) -> None:
    first = await ask(site.app, path)
    rgc = site.shelf.current.rgc
    site.shelf.current.rgc = None  # nothing more is asked of it
    again = await ask(site.app, path)
    assert (again.status, again.body, again.headers) == (200, first.body, first.headers)
    assert (await ask(site.app, path, "HEAD")).body == b""
    site.shelf.current.rgc = rgc
    tree = config()
    tree["genomes"][OTHER]["aliases"] = ["another"]
    tree["genomes"][OTHER]["assets"]["more"] = tree["genomes"][OTHER]["assets"].pop("fasta")
    (site.folder / OTHER / "more__default.tgz").write_bytes(CONTENT)
    site.take(tree)
    assert (await ask(site.app, path)).body != first.body


async def test_lists_that_nobody_asks_for_are_not_kept(site: Site) -> None:
    for path in ("/v3/assets/list?x=1", "/v3/assets/list?includeSeekKeys=no", "/v1/genomes/fasta", "/v3/assets/list/"):
        await ask(site.app, path)
    assert site.shelf.current.lists == {}
