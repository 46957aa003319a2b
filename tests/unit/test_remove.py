"""Each verb, on the real store, queue, reconciler and worker over a synthetic genome folder."""

import json
from pathlib import Path

import anyio
import msgspec
import pytest
from controlled import BOB, Asked, Desk, context_of
from parts import Parts
from synthetic import ALIAS, DIGEST, Genomes

from refgenied.control import views
from refgenied.control.protocol import MAX_REPLY
from refgenied.control.verbs.table import VERBS
from refgenied.model import ConflictError, JobState, NoSpaceError, Priority, UnsafeTreeError
from refgenied.queue.feed import QUEUE
from refgenied.shared.progress import Progress

pytestmark = pytest.mark.anyio

NAME = f"{DIGEST}/fasta:default"


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def desk(parts: Parts, asked: Asked) -> Desk:
    return Desk(context_of(parts, asked))


# --------------------------------------------------------------------------- rpc, server, config


async def test_describe_tells_everything_a_client_needs(desk: Desk) -> None:
    found = await desk.ask("rpc.describe")
    verbs = {verb["name"]: verb for verb in found["verbs"]}
    assert set(verbs) == set(VERBS)
    assert verbs["archive.create"]["writes"]
    assert not verbs["archive.list"]["writes"]
    assert verbs["archive.create"]["params"]["properties"]["force"]["default"] is False
    assert verbs["archive.get"]["params"]["required"] == ["path"]
    assert {"code": 1001, "kind": "asset_not_found"} in verbs["archive.create"]["errors"]
    for verb in verbs.values():
        assert verb["summary"].endswith(".")


async def test_every_write_verb_is_refused_to_who_may_only_read(parts: Parts) -> None:
    desk = Desk(context_of(parts), BOB)
    needed: dict[str, dict[str, object]] = {
        "archive.create": {"path": "t7/fasta"}, "archive.remove": {"path": "t7/fasta"},
        "job.cancel": {"job": 1}, "job.retry": {"job": 1},
    }  # fmt: skip
    writing = {name for name, verb in VERBS.items() if verb.writes}
    assert writing >= {*needed, "server.scan", "server.reload", "server.shutdown", "queue.pause", "queue.resume"}
    for name in writing:
        error = await desk.refused(name, **needed.get(name, {}))
        assert error["data"]["kind"] == "permission_denied", error
        assert "bob (uid 1002)" in error["message"]


async def test_info(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    genomes.build("index")
    genomes.start(genomes.build("slow"))
    before = await desk.ask("server.info")
    assert (before["genome_folder"]["ok"], before["last_look"]["at"]) == (False, 0)
    await parts.reconciler.look_again()
    job = await parts.jobs.claim()
    assert job
    parts.jobs.progress[job.id] = Progress("packing", 5, 10, 2.5)
    await parts.pause.pause(desk.peer.requester)
    parts.health.set("watch", "broken")
    info = await desk.ask("server.info")
    assert info["genome_folder"]["path"] == str(genomes.root)
    assert info["genome_folder"]["ok"]
    assert info["archive_folder"]["free"] > 0
    assert info["assets"]["states"] == {"complete": 2, "building": 1}
    assert info["assets"]["archive"] == {"none": 3, "archived": 0, "stale": 0}
    assert info["queue"] == {"queued": 1, "running": 1, "failed": 0, "paused": "paused by ann"}
    assert info["running"][0]["progress"] == {"phase": "packing", "done": 5, "total": 10, "rate": 2.5}
    assert ("watch", "broken") in [(row["name"], row["message"]) for row in info["health"]]
    assert 60 <= info["uptime"] < 90


async def test_scan_looks_and_says_what_it_queued(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    found = await desk.ask("server.scan")
    assert (found["assets"], found["states"], found["queued"]) == (1, {"complete": 1}, [NAME])
    assert (await desk.ask("server.scan"))["queued"] == []


async def test_reload_and_shutdown_are_the_daemons(desk: Desk, asked: Asked) -> None:
    asked.restart_needed = ["state.folder"]
    assert await desk.ask("server.reload") == {"restart_needed": ["state.folder"]}
    assert await desk.ask("server.shutdown") == {"shutting_down": True}
    assert (asked.reloads, asked.shutdowns) == (1, 1)


async def test_config_has_refgenies_four_and_all_of_ours(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    await parts.reconciler.look_again()
    found = await desk.ask("config.get")
    assert list(found["refgenie"]) == ["genome_folder", "version", "genome_archive_folder", "servers"]
    assert found["refgenie"]["genome_folder"] == str(genomes.root)
    assert found["refgenie"]["version"] == "0.4"
    names = [row["name"] for row in found["settings"]]
    assert {"archive.automatic", "control.group", "watch.sweep_seconds"} <= set(names)


# --------------------------------------------------------------------------- assets


async def test_asset_list_filters_and_pages(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    for group in "abcde":
        genomes.build(group)
    genomes.start(genomes.build("f"))
    await parts.settle()
    everything = (await desk.ask("asset.list"))["assets"]
    assert [row["asset_group"] for row in everything] == list("abcdef")
    row = everything[0]
    assert (row["registry_path"], row["aliases"], row["state"]) == (f"{DIGEST}/a:default", [ALIAS], "complete")
    assert (row["archive"], row["job"], row["wanted"]) == ("archived", None, True)
    building = (await desk.ask("asset.list", state="building"))["assets"]
    assert [(row["asset_group"], bool(row["why_not"])) for row in building] == [("f", True)]
    assert len((await desk.ask("asset.list", pattern="t7/[ab]"))["assets"]) == 2
    assert len((await desk.ask("asset.list", pattern=ALIAS))["assets"]) == 6
    assert (await desk.ask("asset.list", pattern="other/*"))["assets"] == []
    first = await desk.ask("asset.list", limit=4)
    rest = await desk.ask("asset.list", limit=4, after=first["next"])
    assert [row["asset_group"] for row in first["assets"] + rest["assets"]] == list("abcdef")
    assert rest["next"] is None
    assert (await desk.refused("asset.list", pattern="a/b/c"))["data"]["kind"] == "bad_registry_path"


async def test_asset_get_resolves_alias_and_default(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.ask("asset.get", path="t7/fasta")
    assert found["asset"]["registry_path"] == NAME
    assert found["archive"]["registry_path"] == NAME
    assert found["newest_job"]["outcome"] == "published"
    error = await desk.refused("asset.get", path="t7/fastq")
    assert error["code"] == 1001, error
    assert "fasta" in error["data"]["hint"]


# --------------------------------------------------------------------------- archives


async def test_create_asks_once_and_says_what_is_archived_already(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(automatic=False)
    genomes.build()
    first = await desk.ask("archive.create", path="t7/fasta")
    again = await desk.ask("archive.create", path=NAME)
    assert (first["created"], first["state"], first["registry_path"]) == (True, "queued", NAME)
    assert (again["created"], again["job"]) == (False, first["job"])
    job = await parts.latest(views.key_after(NAME))
    assert (job.priority, job.requested_by) == (Priority.ASKED, "ann")
    await parts.work()
    done = await desk.ask("archive.create", path="t7/fasta")
    assert (done["job"], done["state"], done["created"]) == (None, "archived", False)
    forced = await desk.ask("archive.create", path="t7/fasta", force=True)
    assert (forced["created"], forced["state"]) == (True, "queued")


async def test_create_of_several_gives_each_its_answer(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    genomes.start(genomes.build("slow"))
    found = (await desk.ask("archive.create", paths=["t7/fasta", "t7/slow", "no/such", "nonsense"]))["results"]
    assert [row["state"] for row in found] == ["queued", "refused", "refused", "refused"]
    kinds = [row["error"]["data"]["kind"] for row in found[1:]]
    assert kinds == ["asset_incomplete", "asset_not_found", "bad_registry_path"]
    assert "cannot be archived: being built" in found[1]["error"]["message"]
    assert "either `path` or `paths`" in (await desk.refused("archive.create"))["message"]


async def test_create_without_an_archive_folder_says_how_to_set_it(desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    desk.context.archive_folder.path = ""
    error = await desk.refused("archive.create", path="t7/fasta")
    assert (error["code"], error["data"]["kind"]) == (1004, "archive_folder_not_set")
    assert "genome_archive_folder" in error["data"]["hint"]


async def test_list_has_the_promised_fields(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build(a=b"1", b=b"22")
    await parts.settle()
    [row] = (await desk.ask("archive.list"))["archives"]
    record = await parts.record(views.key_after(NAME))
    assert record
    assert row["digest"] == record.digest
    assert (row["registry_path"], row["genome_digest"], row["aliases"]) == (NAME, DIGEST, [ALIAS])
    assert (row["asset_group"], row["asset"], row["files"], row["download_count"]) == ("fasta", "default", 2, 0)
    assert Path(row["path"]).stat().st_size == row["size"]
    assert (row["asset_digest"], row["content_digest"]) == (record.asset_digest, record.content_digest)
    assert (row["state"], row["created_at"]) == ("archived", record.created_at)
    Path(row["path"]).unlink()
    [row] = (await desk.ask("archive.list", pattern="t7/*"))["archives"]
    assert row["state"] == "stale"
    assert "No such file" in row["problem"]
    assert (await desk.ask("archive.list", pattern="x/*"))["archives"] == []


async def test_get_shows_contents_and_build(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build(a=b"1", b=b"22")
    await parts.settle()
    found = await desk.ask("archive.get", path="t7/fasta")
    contents = found["contents"]
    assert [(entry["path"], entry["type"]) for entry in contents["files"]] == [
        ("", "folder"), ("a", "file"), ("b", "file"),
    ]  # fmt: skip
    assert contents["files_total"] == 3
    assert contents["build"]["commands"] == ["touch a"]
    assert contents["seek_keys"] == {"fasta": "a"}
    Path(contents["manifest"]).unlink()
    broken = await desk.ask("archive.get", path="t7/fasta")
    assert broken["contents"] is None
    assert "no manifest" in broken["problem"]


async def test_files_of_a_big_archive_come_in_pages(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    names = {f"{'n' * 200}{number:04d}": b"" for number in range(1500)}
    genomes.build(**names)
    await parts.settle()
    seen: list[str] = []
    skip: int | None = 0
    while skip is not None:
        page = await desk.ask("archive.files", path="t7/fasta", skip=skip)
        assert page["total"] == 1501
        seen += [entry["path"] for entry in page["files"]]
        skip = page["next"]
    assert seen == ["", *sorted(names)]
    shown = await desk.ask("archive.get", path="t7/fasta")
    assert len(json.dumps(shown)) < MAX_REPLY
    assert shown["contents"]["files_total"] == 1501


async def test_remove_forgets_leaves_the_file_and_holds(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    found = await desk.ask("archive.remove", path="t7/fasta")
    assert (found["registry_path"], found["deleted"], found["there"]) == (NAME, False, True)
    assert Path(found["path"]).exists()
    assert await parts.record(key) is None
    assert (await desk.ask("server.scan"))["queued"] == [], "it does not come back by itself"
    manifest = json.loads(Path(found["path"]).with_suffix(".json").read_text())
    assert manifest["removed"]["by"] == "ann", "a database made anew from the folder knows of it"
    assert (await desk.refused("archive.remove", path="t7/fasta"))["data"]["kind"] == "archive_not_found"
    (genomes.folder(key) / "fasta").write_bytes(b"new")
    genomes.start(key)
    genomes.finish(key)
    assert (await desk.ask("server.scan"))["queued"] == [NAME], "but rebuilt it does"


async def test_remove_with_the_file_also_when_the_asset_or_the_manifest_is_gone(
    parts: Parts, desk: Desk, genomes: Genomes
) -> None:
    key = genomes.build()
    await parts.settle()
    genomes.groups.clear()
    genomes.write_config()
    genomes.folder(key).rename(genomes.root / "elsewhere")
    await parts.reconciler.look_again()
    await parts.reconciler.look_again()
    record = await parts.record(key)
    assert record
    path = Path(parts.archive_folder.path, record.path)
    path.with_suffix(".json").unlink()
    found = await desk.ask("archive.remove", path=f"{ALIAS}/fasta", delete_file=True)
    assert (found["deleted"], found["there"]) == (True, False)
    assert not path.exists()
    assert await parts.record(key) is None


async def test_remove_never_takes_another_asset_of_the_group(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(automatic=False)
    genomes.build(asset="first")
    genomes.build(asset="second")
    await desk.ask("archive.create", path="t7/fasta:second")
    await parts.work()
    assert (await desk.refused("archive.remove", path="t7/fasta"))["data"]["kind"] == "archive_not_found"
    assert len((await desk.ask("archive.list"))["archives"]) == 1


async def test_remove_cancels_the_job_first(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    await desk.ask("archive.create", path="t7/fasta", force=True)
    await desk.ask("archive.remove", path="t7/fasta")
    job = await parts.latest(key)
    assert (job.state, job.error) == (JobState.CANCELLED, "cancelled by ann")
    assert [event.kind for event in await parts.events()][-2:] == ["job.cancelled", "archive.removed"]


async def test_remove_waits_until_a_running_job_has_ended(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.settle()
    await desk.ask("archive.create", path="t7/fasta", force=True)
    job = await parts.jobs.claim()
    assert job
    packing = anyio.Event()

    async def pack() -> None:
        with parts.jobs.running[job.id].scope:
            packing.set()
            await anyio.sleep_forever()
        await parts.jobs.end_cancelled(job, "cancelled", "cancelled by ann")

    async with anyio.create_task_group() as group:
        group.start_soon(pack)
        await packing.wait()
        await desk.ask("archive.remove", path="t7/fasta")
    assert [event.kind for event in await parts.events()][-2:] == ["job.cancelled", "archive.removed"]
    assert await parts.record(key) is None


# --------------------------------------------------------------------------- archive.wait


async def test_wait_returns_at_once_for_what_is_archived_as_it_is(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.ask("archive.wait", path="t7/fasta")
    assert (found["state"], found["archive"]["registry_path"]) == ("archived", NAME)


async def test_wait_right_after_a_build_sees_the_job_through(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()  # nobody has looked since
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        with anyio.fail_after(10):
            found = await desk.ask("archive.wait", path="t7/fasta", progress=True)
        group.cancel_scope.cancel()
    assert found["state"] == "archived"


async def test_wait_for_a_rebuild_is_not_content_with_the_old_archive(
    parts: Parts, desk: Desk, genomes: Genomes
) -> None:
    key = genomes.build()
    await parts.settle()
    genomes.start(key)
    found = await desk.ask("archive.wait", path="t7/fasta", timeout=0.1)
    assert found["state"] == "timeout", found
    assert "being built" in found["reason"]
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        group.start_soon(parts.reconciler.run)

        async def rebuild() -> None:
            (genomes.folder(key) / "fasta").write_bytes(b"new content")
            genomes.finish(key)
            parts.reconciler.hint()

        group.start_soon(rebuild)
        with anyio.fail_after(10):
            found = await desk.ask("archive.wait", path="t7/fasta")
        group.cancel_scope.cancel()
    assert (found["state"], found["archive"]["source_size"]) == ("archived", len(b"new content"))


async def test_wait_tells_of_a_failed_job(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    job = await parts.jobs.claim()
    assert job
    await parts.jobs.fail(job, UnsafeTreeError("a device: x"))
    found = await desk.ask("archive.wait", path="t7/fasta")
    assert (found["state"], found["reason"], found["job"]["error_kind"]) == ("failed", "a device: x", "unsafe_tree")


async def test_wait_ends_at_once_for_what_is_not_archived_by_itself(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    parts.change_settings(exclude=("t7/fasta",))
    key = genomes.build()
    for _ in ("complete", "building"):
        error = await desk.refused("archive.wait", path="t7/fasta")
        assert (error["code"], error["data"]["kind"]) == (1011, "asset_not_wanted")
        assert "excluded by archive.exclude" in error["message"]
        genomes.start(key)
    assert (await desk.refused("archive.wait", path="t7/nothing"))["data"]["kind"] == "asset_not_found"


async def test_wait_shows_progress_of_the_running_job(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    job = await parts.jobs.claim()
    assert job
    parts.jobs.progress[job.id] = Progress("packing", 5, 10, 2.5)
    found = await desk.lines("archive.wait", path="t7/fasta", progress=True, timeout=0.6)
    assert found[0]["params"] == {"watch": 1, "job": job.id, "phase": "packing", "done": 5, "total": 10, "rate": 2.5}
    assert found[-1]["result"]["state"] == "timeout"
    assert len(found) == 2, "the same reading is told once"


# --------------------------------------------------------------------------- jobs and the queue


async def test_job_list_get_cancel_retry(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    for group in "abc":
        genomes.build(group)
    await parts.reconciler.look_again()
    running = await parts.jobs.claim()
    assert running
    listed = (await desk.ask("job.list"))["jobs"]
    assert [job["state"] for job in listed] == ["running", "queued", "queued"]
    first = await desk.ask("job.list", limit=2)
    assert [job["job"] for job in (await desk.ask("job.list", skip=first["next"]))["jobs"]] == [listed[2]["job"]]
    number = listed[1]["job"]
    assert (await desk.ask("job.cancel", job=number))["state"] == "cancelled"
    assert (await desk.ask("job.get", job=number))["error"] == "cancelled by ann"
    assert [job["job"] for job in (await desk.ask("job.list", ended=5))["jobs"]][-1] == number
    assert (await desk.refused("job.cancel", job=number))["code"] == ConflictError.code
    assert (await desk.ask("job.retry", job=number))["state"] == "queued"
    assert (await desk.refused("job.get", job=999))["data"]["kind"] == "job_not_found"


async def test_pause_and_resume(parts: Parts, desk: Desk) -> None:
    assert await desk.ask("queue.pause") == {"paused": "paused by ann", "changed": True}
    assert (await desk.ask("queue.pause"))["changed"] is False
    assert parts.pause.active
    assert await desk.ask("queue.resume") == {"paused": "", "changed": True}
    assert (await desk.ask("queue.resume"))["changed"] is False


async def test_job_watch_from_queued_to_the_end(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.reconciler.look_again()
    async with anyio.create_task_group() as group:
        lines: list[dict[str, object]] = []

        async def watch() -> None:
            lines.extend(await desk.lines("job.watch", job=1))
            group.cancel_scope.cancel()

        group.start_soon(watch)
        while not desk.sent:
            await desk.arrived.wait()
        group.start_soon(parts.worker.run)
    assert lines[0]["result"]["job"]["state"] == "queued"
    kinds = [line["params"]["kind"] for line in lines if line.get("method") == "event"]
    assert kinds == ["job.running", "archive.published", "job.succeeded"]
    assert lines[-1]["method"] == "end"
    assert lines[-1]["params"]["reason"] == "done"
    assert lines[-1]["params"]["job"]["outcome"] == "published"
    assert (await desk.lines("job.watch", job=1))[-1]["params"]["reason"] == "done", "one that has ended ends at once"


async def test_job_watch_goes_on_with_the_twin_that_takes_the_place(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.reconciler.look_again()
    first = await parts.jobs.claim()
    assert first
    twin, _ = await parts.jobs.enqueue(key, stamp="newer", priority=Priority.ASKED)
    await parts.jobs.hand_back(first, NoSpaceError("full"))
    async with anyio.create_task_group() as group:
        group.start_soon(parts.worker.run)
        lines = await desk.lines("job.watch", job=first.id)
        group.cancel_scope.cancel()
    assert lines[-1]["params"]["job"]["job"] == twin.id
    assert lines[-1]["params"]["job"]["state"] == "succeeded"


# --------------------------------------------------------------------------- events


async def test_events_from_the_log_then_live_in_rising_order(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    past = await desk.lines("event.watch", since=0, follow=False)
    assert past[0]["result"] == {"seq": 4, "oldest": 1, "lagged": False, "since": 0}
    assert past[-1] == {
        "jsonrpc": "2.0", "method": "end", "params": {"watch": 1, "reason": "done", "seq": 4, "job": None},
    }  # fmt: skip
    first = past[1]["params"]
    assert (first["kind"], first["registry_path"], first["aliases"]) == ("job.queued", NAME, [ALIAS])
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch", since=2))
        await desk.until("event")
        genomes.build("index")
        await parts.settle()
        while len(desk.sent) < 7:
            await desk.arrived.wait()
        group.cancel_scope.cancel()
    assert [line["params"]["seq"] for line in desk.sent[1:]] == [3, 4, 5, 6, 7, 8]


async def test_an_event_that_happens_while_the_log_is_read_is_told_once(parts: Parts, desk: Desk) -> None:
    async def log() -> None:
        async with parts.jobs.change() as change:
            await change.log("queue.paused", by="ann")

    desk.meanwhile = log
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch", since=0))
        await desk.until("event")
        await log()
        while len(desk.sent) < 3:
            await desk.arrived.wait()
        group.cancel_scope.cancel()
    assert [line["params"]["seq"] for line in desk.sent[1:]] == [1, 2]


async def test_since_from_another_life_is_told(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    genomes.build()
    await parts.settle()
    found = await desk.lines("event.watch", since=1000, follow=False)
    assert found[0]["result"]["lagged"] is True
    assert [line["params"]["seq"] for line in found[1:-1]] == [1, 2, 3, 4]
    async with parts.store.transaction() as tx:
        await tx.execute("DELETE FROM event WHERE seq <= 2")
    found = await desk.lines("event.watch", since=1, follow=False)
    assert found[0]["result"] == {"seq": 4, "oldest": 3, "lagged": True, "since": 1}
    assert (await desk.lines("event.watch", since=2, follow=False))[0]["result"]["lagged"] is False


async def test_a_slow_subscriber_is_told_lagged_and_cut(parts: Parts, desk: Desk) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: desk.lines("event.watch"))
        while not desk.sent:
            await desk.arrived.wait()
        async with parts.jobs.change() as change:
            for _ in range(QUEUE + 1):  # more at once than may wait for one subscriber
                await change.log("queue.paused", by="ann")
        with anyio.fail_after(5):
            end = await desk.until("end")
        group.cancel_scope.cancel()
    assert end["reason"] == "lagged"


async def test_replies_stay_below_the_limit_whatever_the_names(parts: Parts, desk: Desk, genomes: Genomes) -> None:
    key = genomes.build()
    await parts.reconciler.look_again()
    look = parts.reconciler.look
    long = msgspec.structs.replace(look.assets[key], reason="r" * 5000)
    many = {
        msgspec.structs.replace(key, asset_group=f"g{n}"): msgspec.structs.replace(
            long, key=msgspec.structs.replace(key, asset_group=f"g{n}")
        )
        for n in range(600)
    }
    parts.reconciler.last.look = msgspec.structs.replace(look, assets=many)
    after, seen = "", 0
    while after is not None:
        [line] = await desk.lines("asset.list", after=after)
        assert len(json.dumps(line)) < MAX_REPLY
        seen += len(line["result"]["assets"])
        after = line["result"]["next"]
    assert seen == 600
