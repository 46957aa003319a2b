"""Lists and answers about one asset: what they name, and that nothing is computed for rows that nobody asked for."""

from collections.abc import AsyncGenerator

import anyio
import msgspec
import pytest
from controlled import Desk, context_of
from many import alias_of, cost, filled, keys_of, look_of, record_of, see
from parts import Parts, claim, running
from synthetic import Genomes
from transactions import changing

from refgenied.control.selection import Selection
from refgenied.control.views import PAGE_ROWS
from refgenied.model import AssetKey, AssetState, Genome, Priority
from refgenied.reconciler import key_order, standings
from refgenied.reconciler.key_order import EVERYTHING, SCANNED_AT_ONCE, KeyOrder, Span
from refgenied.store import archives
from refgenied.store import jobs as rows

pytestmark = pytest.mark.anyio

KEYS = keys_of(60)
VERBS = pytest.mark.parametrize(("verb", "field"), [("asset.list", "assets"), ("archive.list", "archives")])


@pytest.fixture
async def parts(genomes: Genomes) -> AsyncGenerator[Parts]:
    async with running(genomes) as parts:
        await filled(parts, KEYS)
        yield parts


@pytest.fixture
def desk(parts: Parts) -> Desk:
    return Desk(context_of(parts))


async def listed(desk: Desk, verb: str, field: str, **params: object) -> list[AssetKey]:
    found: list[AssetKey] = []
    after: str | None = ""
    while after is not None:
        page = await desk.ask(verb, after=after, **params)
        found += [AssetKey(row["genome_digest"], row["asset_group"], row["asset"]) for row in page[field]]
        after = page["next"]
    return found


# --------------------------------------------------------------------------- cost


async def steps_of(genomes: Genomes, number: int, method: str, params: dict[str, object]) -> tuple[int, int]:
    async with running(genomes, state=f"state-{number}") as parts:
        await filled(parts, keys_of(number))
        desk = Desk(context_of(parts))
        await desk.ask("server.info")  # it counts all assets once
        await desk.lines(method, **params)  # once for what is made at the first time, such as statements
        async with cost(parts) as spent:
            await desk.lines(method, **params)
    return spent.steps, spent.files


ONE = "genome7/group3:default"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("archive.get", {"path": ONE}),
        ("archive.files", {"path": ONE}),
        ("asset.get", {"path": ONE}),
        ("asset.list", {"limit": 20}),
        ("asset.list", {"limit": 20, "after": KEYS[10].registry_path}),
        ("archive.list", {"limit": 20}),
        ("archive.list", {"limit": 20, "after": KEYS[10].registry_path}),
        ("download.editions", {"limit": 20}),
        ("job.list", {"limit": 20, "ended": 10}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_costs_the_same_whatever_the_number_of_assets(
    genomes: Genomes, method: str, params: dict[str, object]
) -> None:
    few, many = [await steps_of(genomes, number, method, params) for number in (60, 600)]
    assert many[1] == few[1] <= 21, "files"
    assert many[0] < few[0] * 1.3, "steps of the database"


@pytest.mark.parametrize("verb", ["asset.list", "archive.list"])
async def test_a_registry_path_as_a_pattern_reads_one_row(parts: Parts, desk: Desk, verb: str) -> None:
    async with cost(parts) as spent:
        await desk.ask(verb, pattern=ONE)
    assert spent.files == 1


async def test_only_the_part_of_the_keys_is_searched_that_a_pattern_can_name(desk: Desk) -> None:
    genome = KEYS[35].genome_digest
    for pattern, part in (
        (ONE, Span.of(genome, "group3", "default")),
        ("genome7/group3", Span.of(genome, "group3")),
        ("genome7/group3:*", Span.of(genome, "group3")),
        ("genome7/group*:default", Span.of(genome)),
        ("genome7", Span.of(genome)),
        ("*7/group3", EVERYTHING),
    ):
        spans = await Selection(pattern).spans(desk.context)
        assert [span for span in spans if span.begin.genome_digest != "genome7"] == [part]  # an alias may be a digest


@VERBS
async def test_a_genome_as_a_pattern_reads_its_rows(parts: Parts, desk: Desk, verb: str, field: str) -> None:
    async with cost(parts) as spent:
        assert await listed(desk, verb, field, pattern="genome7/*") == KEYS[35:40]
    assert spent.files == 5


async def test_status_asks_only_about_what_has_changed(parts: Parts, desk: Desk) -> None:
    await desk.ask("server.info")
    async with cost(parts) as spent:
        await desk.ask("server.info")
        assert spent.files == 0
        async with changing(parts.jobs) as change:
            await archives.put(change.tx, record_of(parts, KEYS[5]))
            await change.log("archive.published", KEYS[5])
        await desk.ask("server.info")
        assert spent.files == 1


async def test_no_statement_of_the_queue_reads_all_jobs(parts: Parts) -> None:
    """With many queued jobs the next one is found by an index, and so is what a status shows."""
    key = KEYS[0]
    costs: list[int] = []
    for number in (250, 800):
        for one in keys_of(number)[len(costs) * 250 :]:
            await parts.jobs.enqueue(one, stamp="t", priority=Priority.BACKLOG)
        async with cost(parts) as spent:
            [job] = await parts.store.ask(rows.due, parts.clock(), 1)
            assert job.key == key
            await parts.store.ask(rows.next_time)
            await parts.store.ask(rows.running)
            await parts.store.ask(rows.again, 5)
            await parts.store.ask(rows.ended, 10)
            await parts.store.ask(rows.latest, [key])
            await parts.store.ask(rows.since, await parts.store.ask(rows.newest), 10)
        costs.append(spent.steps)
    assert costs[1] < costs[0] * 1.3


# --------------------------------------------------------------------------- what is named


@VERBS
@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("", range(60)),
        ("*/*", range(60)),
        ("genome3", range(15, 20)),
        (KEYS[15].genome_digest, range(15, 20)),
        ("genome3/group1", [16]),
        ("genome3/group1:default", [16]),
        ("genome3/group1:*", [16]),
        ("genome3/group[12]", [16, 17]),
        ("genome?/group1:d*", range(1, 50, 5)),
        ("*/group4:default", range(4, 60, 5)),
        ("genome3/none", []),
        ("none/*", []),
        ("none/group1:default", []),
    ],
)
async def test_a_pattern_names(desk: Desk, verb: str, field: str, pattern: str, numbers: list[int]) -> None:
    assert await listed(desk, verb, field, pattern=pattern) == [KEYS[n] for n in numbers]
    assert await listed(desk, verb, field, pattern=pattern, limit=2) == [KEYS[n] for n in numbers]


@VERBS
async def test_an_alias_of_two_genomes_names_both(parts: Parts, desk: Desk, verb: str, field: str) -> None:
    look = look_of(KEYS)
    both = {digest: Genome(digest, (*genome.aliases, "both")) for digest, genome in list(look.genomes.items())[2:4]}
    assets = {
        key: msgspec.structs.replace(asset, aliases=(*asset.aliases, "both")) if key.genome_digest in both else asset
        for key, asset in look.assets.items()
    }
    see(parts, msgspec.structs.replace(look, assets=assets, genomes=look.genomes | both))
    assert await listed(desk, verb, field, pattern="both/*", limit=3) == KEYS[10:20]
    assert await listed(desk, verb, field, pattern="both/group0:default") == [KEYS[10], KEYS[15]]


@VERBS
async def test_an_archive_whose_genome_is_gone_is_found_by_its_alias(
    parts: Parts, desk: Desk, verb: str, field: str
) -> None:
    gone, other = KEYS[15], KEYS[20]
    see(parts, look_of(key for key in KEYS if key.genome_digest not in (gone.genome_digest, other.genome_digest)))
    assert await listed(desk, verb, field) == KEYS
    assert await listed(desk, verb, field, limit=7) == KEYS
    assert await listed(desk, verb, field, pattern="genome3/*") == KEYS[15:20]
    assert await listed(desk, verb, field, pattern="genome3/group0:default") == [gone]
    assert await listed(desk, verb, field, pattern="*3/group0") == [gone]
    assert (await desk.ask("archive.get", path="genome3/group0:default"))["archive"]["state"] == "archived"
    assert (await desk.ask("archive.get", path=f"{gone.genome_digest}/group0"))["archive"]["state"] == "archived"
    assert (await desk.refused("archive.get", path="genome3/none"))["data"]["kind"] == "archive_not_found"


async def test_the_look_knows_better_than_the_record_what_a_genome_is_called(parts: Parts, desk: Desk) -> None:
    look = look_of(KEYS)
    renamed = Genome(KEYS[15].genome_digest, ("new",))
    assets = {key: asset for key, asset in look.assets.items() if key.genome_digest != renamed.digest}
    see(parts, msgspec.structs.replace(look, assets=assets, genomes=look.genomes | {renamed.digest: renamed}))
    assert await listed(desk, "archive.list", "archives", pattern="genome3/*") == []
    assert await listed(desk, "archive.list", "archives", pattern="new/*") == KEYS[15:20]
    assert (await desk.ask("archive.get", path="new/group0:default"))["archive"]["asset_group"] == "group0"
    assert (await desk.refused("archive.get", path="genome3/group0"))["data"]["kind"] == "archive_not_found"


async def test_an_asset_of_a_known_genome_that_is_gone_is_found(parts: Parts, desk: Desk) -> None:
    see(parts, msgspec.structs.replace(look_of(KEYS[1:]), genomes=look_of(KEYS).genomes))
    found = await desk.ask("archive.get", path="genome0/group0:default")
    assert found["archive"]["registry_path"] == KEYS[0].registry_path
    [row] = (await desk.ask("asset.list", pattern="genome0/group0:default"))["assets"]
    assert (row["state"], row["archive"]) == ("missing", "archived")


async def test_a_state_is_selected_before_anything_else_is_read(parts: Parts, desk: Desk) -> None:
    look = look_of(KEYS)
    failed = msgspec.structs.replace(look.assets[KEYS[40]], state=AssetState.FAILED)
    see(parts, msgspec.structs.replace(look, assets=look.assets | {KEYS[40]: failed}))
    async with cost(parts) as spent:
        assert await listed(desk, "asset.list", "assets", state="failed") == [KEYS[40]]
    assert spent.files == 1


@VERBS
async def test_a_page_during_a_change_gives_each_other_row_once(
    parts: Parts, desk: Desk, verb: str, field: str
) -> None:
    see(parts, look_of(KEYS))
    first = await desk.ask(verb, limit=20)
    gone = {KEYS[19], KEYS[25], KEYS[3]}
    new = [AssetKey(key.genome_digest, key.asset_group, "new") for key in (KEYS[2], KEYS[30])]

    async def change() -> None:
        async with changing(parts.jobs) as change:
            for key in gone:
                await archives.forget(change.tx, key)
            for key in new:
                await archives.put(change.tx, record_of(parts, key))
        see(parts, look_of([*(key for key in KEYS if key not in gone), *new]))

    await change()
    found = [row["registry_path"] for row in first[field]]
    found += [key.registry_path for key in await listed_after(desk, verb, field, first["next"])]
    kept = [key.registry_path for key in KEYS if key not in gone]
    assert [path for path in found if path in set(kept)] == kept
    assert new[1].registry_path in found
    assert KEYS[25].registry_path not in found


async def listed_after(desk: Desk, verb: str, field: str, after: str | None) -> list[AssetKey]:
    found: list[AssetKey] = []
    while after is not None:
        page = await desk.ask(verb, after=after, limit=7)
        found += [AssetKey(row["genome_digest"], row["asset_group"], row["asset"]) for row in page[field]]
        after = page["next"]
    return found


async def test_jobs_come_in_pages_as_they_are_in_one(parts: Parts, desk: Desk) -> None:
    for key in KEYS[:9]:
        await parts.jobs.enqueue(key, stamp="t", priority=Priority.ASKED)
    await claim(parts.jobs)
    await claim(parts.jobs)
    whole = [row["job"] for row in (await desk.ask("job.list", ended=6))["jobs"]]
    assert len(whole) == 2 + 7 + 6
    states = [row["state"] for row in (await desk.ask("job.list", ended=6))["jobs"]]
    assert states == ["running"] * 2 + ["queued"] * 7 + ["succeeded"] * 6
    for limit in range(1, 17):
        found: list[int] = []
        skip: int | None = 0
        while skip is not None:
            page = await desk.ask("job.list", ended=6, skip=skip, limit=limit)
            found += [row["job"] for row in page["jobs"]]
            skip = page["next"]
        assert found == whole, limit


async def test_a_scan_tells_the_assets_that_it_has_queued(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    see(parts, look_of(()))
    await parts.jobs.enqueue(KEYS[0], stamp="t", priority=Priority.ASKED)
    key = genomes.build()
    found = await desk.ask("server.scan")
    assert (found["queued"], found["queued_total"]) == ([key.registry_path], 1)


# --------------------------------------------------------------------------- the order of keys


async def test_the_order_follows_every_change(parts: Parts) -> None:
    order = KeyOrder(look_of(()))
    many = keys_of(SCANNED_AT_ONCE + 50)
    for keys in (many, many[:10], [], many[5:20], [*many[30:], *many[:7]], many[::-2], many[::-2]):
        order.follow(look_of(keys))
        left: Span | None = EVERYTHING
        found: list[AssetKey] = []
        while left is not None:
            some, read = order.first(left, 100, lambda _: True)
            found += some
            left = Span(read.until, None) if read.until is not None else None
        assert found == sorted(keys)


async def test_a_search_for_few_among_many_stops_now_and_then(parts: Parts) -> None:
    many = keys_of(SCANNED_AT_ONCE * 2)
    order = KeyOrder(look_of(many))
    found, read = order.first(EVERYTHING, 10, lambda asset: asset.key == many[-1])
    assert found == []
    assert read.until is not None
    assert many[SCANNED_AT_ONCE - 1] < read.until <= many[SCANNED_AT_ONCE]


@pytest.mark.parametrize("at_once", [1, 2, 7, 59, 60, 61])
async def test_a_list_is_whole_however_few_keys_are_read_at_once(
    parts: Parts, desk: Desk, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    for module in (key_order, standings):
        monkeypatch.setattr(module, "SCANNED_AT_ONCE", at_once)
    for there in (KEYS, KEYS[::2], KEYS[:20], KEYS[50:], []):
        see(parts, look_of(there))
        assert await listed(desk, "asset.list", "assets") == KEYS
        assert await listed(desk, "asset.list", "assets", pattern="*[02468]/*", limit=4) == [
            key for key in KEYS if alias_of(key)[-1] in "02468"
        ]


async def test_a_list_of_more_than_a_page_is_whole(parts: Parts, desk: Desk) -> None:
    many = keys_of(PAGE_ROWS * 2 + 1)
    see(parts, look_of(many))
    with anyio.fail_after(30):
        assert await listed(desk, "asset.list", "assets") == many
    see(parts, look_of(()))  # all that is archived is gone from the genome folder
    assert await listed(desk, "asset.list", "assets") == KEYS
