"""The service under a real systemd: start, status, restart, reload, stop, the sandbox, the journal."""

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from installed import ARCHIVES, CONFIG, GENOMES, SETTINGS, Service
from lab import HELPERS, SCRIPTS
from machine import Machine
from refgenie_cli import DEMO
from synthetic import DIGEST

PROBE = HELPERS / "probe.py"
BIG = 24 << 30
"""Bytes that take longer to pack than a restart or an installation by pip."""
NAME = f"{DIGEST}/fasta:default"


def state(service: Service) -> str:
    return service.machine.show("ActiveState")


# --------------------------------------------------------------------------- installed and running


def test_units_are_verified_safe_and_written_once(service: Service) -> None:
    machine = service.machine
    units = ("refgenied.service", "refgenied.socket", "refgenied-serve.service")
    said = machine.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{unit}" for unit in units))
    assert said.out + said.err == ""
    assert machine.exposure("refgenied.service") <= 1.0
    assert machine.exposure("refgenied-serve.service") <= 2.0
    again = machine.run("refgenied", "install-units").out
    assert "write " not in again
    assert again.count("unchanged ") == 5


def test_it_is_ready_and_says_what_it_does(service: Service) -> None:
    machine = service.machine
    service.ctl("archive", "wait", "t7/fasta")
    assert state(service) == "active"
    assert machine.until("idle", lambda: machine.show("StatusText") == "idle; 0 queued")
    assert "idle; 0 queued" in machine.run("systemctl", "status", "refgenied", "--no-pager").out
    for name, value in (("Nice", "10"), ("CPUWeight", "20"), ("IOWeight", "20"), ("WatchdogUSec", "1min")):
        assert machine.show(name) == value
    service.genomes.build("idx", index=b"i" * 1000)
    service.ctl("archive", "wait", "t7/idx")
    found = next(row for row in service.rows("archive", "list") if row["asset_group"] == "idx")
    owner = machine.run("stat", "-c", "%U:%G", ARCHIVES, ARCHIVES / found["path"]).out.split()
    assert owner == ["refgenied:refgenie"] * 2


def test_members_of_the_group_give_orders_and_others_do_not(service: Service) -> None:
    machine = service.machine
    uid = machine.run("id", "-u", "alice").out.strip()
    assert service.ctl("status", user="alice").out.startswith("refgenied ")
    service.ctl("scan", user="alice")
    written = machine.journal("REFGENIED_EVENT=control.write", "REFGENIED_USER=alice")
    assert written[-1]["REFGENIED_UID"] == uid, "the sandbox must not hide who is at the other end"
    refused = service.ctl("status", user="bob", check=False)
    assert refused.code == 4, refused


def test_events_are_entries_of_the_journal_with_fields(service: Service) -> None:
    service.ctl("archive", "wait", "t7/fasta")
    by_alias = service.machine.journal("-u", "refgenied", "REFGENIED_ASSET=t7/fasta:default")
    by_digest = service.machine.journal("-u", "refgenied", f"REFGENIED_ASSET={NAME}")
    assert [row["__CURSOR"] for row in by_alias] == [row["__CURSOR"] for row in by_digest]
    events = [row["REFGENIED_EVENT"] for row in by_alias]
    assert events.count("job.succeeded") == 1, events
    done = by_alias[events.index("job.succeeded")]
    assert done["REFGENIED_ASSET"] == [NAME, "t7/fasta:default"]
    assert done["MESSAGE"].startswith("job.succeeded t7/fasta:default (")
    assert (done["PRIORITY"], done["REFGENIED_OUTCOME"], done["_TRANSPORT"]) == ("6", "published", "journal")
    assert done["REFGENIED_JOB"].isdecimal()
    for row in service.machine.journal("-u", "refgenied", "_COMM=refgenied"):
        assert row["_TRANSPORT"] == "journal", row
        assert isinstance(row["MESSAGE"], str), "escape codes make it bytes"
        assert "\x1b" not in row["MESSAGE"]
        assert "timestamp" not in row["MESSAGE"]


def test_warnings_have_their_priority_and_long_entries_arrive_whole(service: Service) -> None:
    """A message that quotes 300 kB of a configuration does not fit into a datagram."""
    long = "x" * 300_000
    service.configure(f"[archive]\n{long} = 1\n")
    service.machine.run("kill", "-HUP", service.machine.pid)
    refused = service.machine.entry("-u", "refgenied", "REFGENIED_EVENT=config.refused")
    assert refused["PRIORITY"] == "4"
    assert long in refused["MESSAGE"]
    assert state(service) == "active"


# --------------------------------------------------------------------------- the sandbox


def test_the_sandbox_holds(service: Service) -> None:
    machine = service.machine
    machine.file("/opt/probe/probe.py").write_text(PROBE.read_text())
    machine.file(GENOMES).chmod(0o777)
    report = "/var/lib/refgenied/probe.json"
    folders = [str(GENOMES), "/srv/other", "/etc", "/usr", "/opt", "/var/lib", str(ARCHIVES)]
    machine.drop_in(f"ExecStartPost=/usr/bin/python3 /opt/probe/probe.py {report} {' '.join(folders)}")
    service.restart()
    found = json.loads(machine.file(report).read_text())
    assert found["write"].pop(str(ARCHIVES)) == "allowed"
    assert set(found["write"].values()) == {"Read-only file system"}, found
    assert found["socket"].pop("AF_UNIX") == "allowed"
    assert set(found["socket"].values()) == {"Address family not supported by protocol"}, found
    assert found["home"] != "allowed"
    assert found["capabilities"] == ["CapEff:\t0000000000000000"]
    assert str(found["uid"]) == machine.run("id", "-u", "refgenied").out.strip()
    assert len(found["processes"]) <= 4, "others' processes are seen"
    machine.file(GENOMES).chmod(0o755)


def test_the_sandbox_lets_the_scrub_work(service: Service) -> None:
    """Soon after the start it proves what was not proved for long; here it looks every second, not every minute."""
    machine = service.machine
    service.ctl("archive", "wait", "t7/fasta")
    machine.run("systemctl", "stop", "refgenied.service")
    aged = (
        "import sqlite3; c = sqlite3.connect('/var/lib/refgenied/refgenied.sqlite3', isolation_level=None); "
        "c.execute('UPDATE archive SET proved_at = 1'); c.close()"
    )
    machine.run("/usr/bin/python3", "-c", aged)
    machine.run("chown", "-R", "refgenied:refgenie", "/var/lib/refgenied")
    soon = (
        "import sys, refgenied.__main__, refgenied.maintenance.scrubber as scrubber; "
        "scrubber.DUE_LOOK_SECONDS = 1; sys.exit(refgenied.__main__.main())"
    )
    machine.drop_in(f"ExecStart=\nExecStart={machine.bin}/python -c '{soon}' run --config {CONFIG}")
    machine.run("systemctl", "start", "refgenied.service")
    before = machine.pid
    machine.entry("-u", "refgenied", "REFGENIED_EVENT=archive.scrubbed", f"_PID={before}")
    assert machine.pid == before


# --------------------------------------------------------------------------- it comes back


def test_after_a_crash_it_is_started_again_and_clients_wait(service: Service) -> None:
    machine = service.machine
    before, restarts = machine.pid, int(machine.show("NRestarts"))
    machine.run("kill", "-KILL", machine.pid)
    assert service.info["pid"] > 0, "the client waits at systemd's socket"
    assert machine.pid != before
    assert int(machine.show("NRestarts")) == restarts + 1
    assert machine.show("StartLimitIntervalUSec") == "0"


def test_a_stopped_loop_is_killed_by_the_watchdog(service: Service) -> None:
    machine = service.machine
    machine.drop_in("WatchdogSec=1\nTimeoutAbortSec=1\nRestartSec=0.1")
    service.restart()
    before = machine.pid
    time.sleep(2)
    assert machine.pid == before, "a daemon that lives is left alone"
    machine.run("kill", "-STOP", before)
    machine.until("another process", lambda: machine.pid not in (before, "0"))
    machine.until("active again", lambda: state(service) == "active")
    messages = [row["MESSAGE"] for row in machine.journal("-u", "refgenied")]
    assert any("Watchdog timeout" in message for message in messages), messages


def test_a_wedged_database_is_noticed(service: Service) -> None:
    machine = service.machine
    machine.drop_in("WatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=0.1")
    service.restart()
    before = machine.pid
    lock = (
        "import sqlite3, sys; c = sqlite3.connect('/var/lib/refgenied/refgenied.sqlite3', isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    with machine.running("/usr/bin/python3", "-c", lock) as holder:
        assert holder.stdout.readline() == "locked\n"
        machine.until("another process", lambda: machine.pid not in (before, "0"))
        holder.stdin.close()
        holder.wait(10)
    machine.until("active again", lambda: state(service) == "active")
    assert service.info["pid"] != int(before)


def test_a_wrong_configuration_is_said_and_not_tried_again(service: Service) -> None:
    machine = service.machine
    service.configure("[archive]\nincldue = []\n")
    restarts = machine.show("NRestarts")
    assert machine.run("systemctl", "restart", "refgenied", check=False).code == 1
    line = f"{CONFIG}: archive.incldue is not a setting"
    assert machine.show("StatusText") == line
    assert line in machine.run("systemctl", "status", "refgenied", "--no-pager", check=False).out
    assert machine.show("ExecMainStatus") == "78"
    assert machine.journal("-u", "refgenied", "REFGENIED_EVENT=daemon.refused")[-1]["PRIORITY"] == "3"
    refused = service.ctl("status", check=False)
    assert refused.code == 1
    assert line in refused.err, "who waits at the socket is told"
    machine.until("failed for good", lambda: machine.show("SubState") == "failed")  # not `auto-restart`
    assert int(machine.show("NRestarts")) <= int(restarts)
    assert machine.show("ActiveState", "refgenied.socket") == "active"


def set_schema(machine: Machine, version: int) -> int:
    """Write a schema's number into the stopped daemon's database; the one that was there."""
    code = (
        "import sqlite3; c = sqlite3.connect('/var/lib/refgenied/refgenied.sqlite3'); "
        f"print(c.execute('PRAGMA user_version').fetchone()[0]); c.execute('PRAGMA user_version = {version}')"
    )
    return int(machine.run("/opt/refgenied/bin/python", "-c", code).out)


def test_a_database_of_a_newer_version_is_said_to_who_waits(service: Service) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "refgenied.service")
    before = set_schema(machine, 999)
    try:
        machine.run("systemctl", "start", "refgenied.service", check=False)
        machine.until("said", lambda: "schema 999" in machine.show("StatusText"))
        refused = service.ctl("status", check=False)
        assert refused.code == 1, refused
        assert "the daemon cannot start" in refused.err, refused
        assert "schema 999" in refused.err, refused
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        set_schema(machine, before)


# --------------------------------------------------------------------------- the socket


def test_a_client_that_waits_goes_on_after_a_restart(service: Service) -> None:
    path = service.big("waited", BIG)
    with service.machine.running("refgeniectl", "archive", "create", path) as client:
        service.machine.until("packing", lambda: "packing" in service.machine.show("StatusText"))
        service.restart()
        job = service.machine.until("again", lambda: service.info["running"])[0]
        assert job["registry_path"].endswith("/waited:default")
        service.ctl("queue", "cancel", str(job["job"]))
        _, complaints = client.communicate(timeout=20)
    assert "the daemon went away; waiting until it is back" in complaints
    assert client.returncode == 5, complaints
    assert "cancelled by root" in complaints


def test_it_makes_its_own_socket_where_systemd_gives_none(service: Service) -> None:
    machine = service.machine
    machine.run("systemctl", "stop", "refgenied.service", "refgenied.socket")
    machine.run("systemctl", "mask", "--runtime", "refgenied.socket")
    try:
        machine.run("systemctl", "start", "refgenied.service")
        info = machine.file("/run/refgenied/control.sock").lstat()
        assert stat.S_IMODE(info.st_mode) == 0o660
        assert service.ctl("status", user="alice").code == 0
        assert service.ctl("status", user="bob", check=False).code == 4
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        machine.run("systemctl", "unmask", "--runtime", "refgenied.socket")


# --------------------------------------------------------------------------- everyday life


def test_reload_changes_patterns_and_refuses_folders(service: Service) -> None:
    machine = service.machine
    before = machine.pid
    service.configure('[archive]\nexclude = ["*/draft"]\n')
    machine.run("systemctl", "reload", "refgenied")
    service.genomes.build("draft")
    refused = service.ctl("archive", "wait", "t7/draft", check=False)
    assert "archive.exclude" in refused.err or "exclude" in refused.err, refused
    service.configure(settings=SETTINGS.replace(str(ARCHIVES), "/srv/others"))
    assert machine.run("systemctl", "reload", "refgenied", check=False).code == 1
    log = machine.log()
    assert "refgenie.genome_archive_folder changed" in log
    assert "install-units" in log
    assert (machine.pid, state(service)) == (before, "active")
    assert machine.show("StatusText").startswith("idle")


def test_a_stop_in_the_middle_of_a_big_pack_gives_the_job_back(service: Service) -> None:
    machine = service.machine
    service.big("large", BIG)
    machine.until("packing", lambda: "packing t7/large:default" in machine.show("StatusText"))
    nice = machine.run("ps", "-L", "-o", "ni=", "-p", machine.pid).out.split()
    assert set(nice) == {"10", "15"}, "the threads that pack step back behind the one that answers"
    began = time.monotonic()
    machine.run("systemctl", "stop", "refgenied.service")
    assert time.monotonic() - began < 60, "TimeoutStopSec= is 90 s, a chunk is 1 MiB"
    assert machine.show("Result") == "success"
    assert machine.journal("-u", "refgenied", "REFGENIED_EVENT=daemon.stopped")
    machine.run("systemctl", "start", "refgenied.service")
    job = machine.until("it goes on", lambda: service.info["running"])[0]
    assert job["registry_path"].endswith("/large:default")
    assert job["attempts"] == 1, "a stop charges no attempt"
    service.ctl("queue", "cancel", str(job["job"]))


def test_an_upgrade_in_the_middle_of_a_pack_loses_nothing(service: Service, newer_wheel: Path) -> None:
    machine = service.machine
    service.big("upgraded", BIG)
    machine.until("packing", lambda: "packing t7/upgraded:default" in machine.show("StatusText"))
    before, wheel = service.info["version"], Path("/srv") / newer_wheel.name
    shutil.copy(newer_wheel, machine.file(wheel))
    machine.run(machine.bin / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel)
    machine.file(wheel).unlink()
    assert (service.info["version"], state(service)) == (before, "active"), "the old one goes on until the restart"
    service.restart()
    assert service.info["version"] != before
    assert "Traceback" not in machine.log()
    job = machine.until("it goes on", lambda: service.info["running"])[0]
    assert job["registry_path"].endswith("/upgraded:default")
    assert job["attempts"] == 1, "an upgrade charges no attempt"
    service.ctl("queue", "cancel", str(job["job"]))


def test_a_disk_that_comes_late_is_inside_the_sandbox(service: Service) -> None:
    machine = service.machine
    late = Path("/srv/late")
    service.install_for(late)
    service.restart()
    try:
        before = machine.pid
        assert state(service) == "active"
        assert "srv-late.mount" in machine.show("After")
        assert "its disk is not mounted" in json.dumps(service.info["problems"])
        machine.run("mount", "--bind", GENOMES, late)
        machine.until("started again", lambda: machine.pid not in (before, "0") and state(service) == "active")
        assert "a disk was mounted at /srv/late" in machine.log()
        assert service.info["assets"]["total"] > 0
        written = machine.run("nsenter", "-t", machine.pid, "-m", "touch", late / "x", check=False)
        assert "Read-only file system" in written.err
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        machine.run("umount", late, check=False)
        service.install_for(GENOMES)


def test_folders_that_are_links_are_followed(service: Service) -> None:
    machine = service.machine
    machine.run("mkdir", "-p", "/srv/other/archives", "/home/linked")
    machine.run("cp", "-a", GENOMES, "/home/linked/genomes")
    machine.run("ln", "-s", "/home/linked/genomes", "/srv/other/genomes")
    machine.run("ln", "-s", "/srv/other/archives", "/srv/other/link")
    text = SETTINGS.replace(str(GENOMES), "/srv/other/genomes").replace(str(ARCHIVES), "/srv/other/link")
    service.configure(settings=text)
    try:
        machine.run("refgenied", "install-units")
        service.restart()
        service.ctl("archive", "wait", "t7/fasta", "--timeout", "120")
        owner = machine.run("stat", "-c", "%U:%G", "/srv/other/archives").out.strip()
        assert owner == "refgenied:refgenie"
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        machine.run("rm", "-r", "/srv/other/archives", "/srv/other/genomes", "/srv/other/link", "/home/linked")
        service.install_for(GENOMES)


def test_the_archives_disk_may_come_late_too(service: Service) -> None:
    machine, away = service.machine, Path("/srv/away")
    service.ctl("archive", "wait", "t7/fasta")
    machine.run("systemctl", "stop", "refgenied.service")
    machine.run("mv", ARCHIVES, away)
    machine.run("mkdir", ARCHIVES)
    try:
        machine.run("systemctl", "start", "refgenied.service")
        before = machine.pid
        assert "disk not mounted?" in service.ctl("status").out
        machine.run("mount", "--bind", away, ARCHIVES)
        machine.until("started again", lambda: machine.pid not in (before, "0") and state(service) == "active")
        machine.until("well again", lambda: not service.info["health"])
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        machine.run("umount", ARCHIVES, check=False)
        machine.run("rmdir", ARCHIVES)
        machine.run("mv", away, ARCHIVES)


def assert_same(machine: Machine, built: Path, copy: str) -> None:
    """Every file that was built, but refgenie's own notes, is in the copy."""
    names = [file.relative_to(built) for file in built.rglob("*.fa*")]
    assert len(names) >= 2, names
    for name in names:
        assert [path.read_bytes() for path in machine.file(copy).rglob(str(name))] == [(built / name).read_bytes()]


def pulled(service: Service, path: str) -> None:
    """A real `refgenie pull` from the serving unit, and it is counted."""
    machine, config = service.machine, "/srv/pull/genome_config.yaml"
    machine.run("ip", "link", "set", "lo", "up", check=False)
    machine.run("systemctl", "start", "refgenied-serve.service")
    machine.run("env", path, "refgenie", "init", "-c", config, "-s", "http://127.0.0.1:8080")
    machine.run("env", path, "refgenie", "pull", "demo/fasta", "-c", config)
    assert list(machine.file("/srv/pull/data").rglob("*.fa"))
    machine.until("counted", lambda: [row for row in service.rows("archive", "list") if row["download_count"] == 1])
    text = ("systemctl", "show", "--property=StatusText", "--value", "refgenied-serve.service")
    machine.until("the watchdog is fed", lambda: machine.run(*text).out.startswith("serving "))
    machine.run("systemctl", "stop", "refgenied-serve.service")


@pytest.mark.needs("refgenie")
def test_a_real_build_is_archived_served_and_restored(service: Service) -> None:
    """Nothing that is needed on the way is blocked by the two sandboxes."""
    machine, genomes = service.machine, Path("/srv/real")
    refgenie = shutil.which("refgenie", path=f"{SCRIPTS}:{os.environ['PATH']}")
    path = f"PATH={Path(refgenie).parent}:{SCRIPTS}:/usr/bin:/bin"
    config = genomes / "genome_config.yaml"
    machine.file("/srv/demo.fa").write_text(f">chr1\n{'ACGTTGCA' * 5000}\n")
    machine.file("/srv/recipe.json").write_text((DEMO / "recipe.json").read_text())
    machine.run("gzip", "-f", "/srv/demo.fa")
    machine.run("env", path, "refgenie", "init", "-c", config, "-s", "http://127.0.0.1:9")
    service.install_for(genomes)
    try:
        order = (
            "build",
            "demo/fasta",
            "-c",
            config,
            "--files",
            "fasta=/srv/demo.fa.gz",
            "--recipe",
            "/srv/recipe.json",
        )
        machine.run("env", path, "refgenie", *order, seconds=60)
        service.ctl("archive", "wait", "demo/fasta", "--served", "--timeout", "30", user="alice")
        archive = next(row for row in service.rows("archive", "list") if "demo" in row["aliases"])
        listed = machine.run("tar", "tzf", ARCHIVES / archive["path"]).out
        assert f"default/{archive['genome_digest']}.fa\n" in listed, listed
        service.ctl("archive", "restore", "demo/fasta", "--to", "/srv/restored")
        assert_same(machine, next(machine.file(genomes).glob("data/*/fasta/default")), "/srv/restored")
        if machine.run("refgenied", "serve", "--help", check=False).code == 0:
            pulled(service, path)
    finally:
        machine.run("systemctl", "stop", "refgenied.service")
        service.install_for(GENOMES)


def test_one_person_can_run_it_for_an_own_folder(service: Service) -> None:
    machine = service.machine
    uid = machine.run("id", "-u", "carol").out.strip()
    mine = ("env", "HOME=/srv/carol", f"XDG_RUNTIME_DIR=/run/user/{uid}")
    machine.run("systemctl", "start", f"user@{uid}.service")
    folders = ("--genome-folder", "/srv/carol/genomes", "--genome-archive-folder", "/srv/carol/archives")
    machine.run(*mine, "refgenied", "init", *folders, user="carol")
    machine.run(*mine, "refgenied", "install-units", "--user", user="carol")
    machine.run(*mine, "systemctl", "--user", "enable", "--now", "refgenied.service", user="carol")
    status = machine.run(*mine, "refgeniectl", "status", user="carol").out
    assert "/srv/carol/genomes" in status
    machine.run(*mine, "systemctl", "--user", "reload", "refgenied.service", user="carol")
    machine.run(*mine, "refgenied", "uninstall-units", "--user", user="carol")
    assert not list(machine.file("/srv/carol/.config").rglob("*.service"))
    machine.run("systemctl", "stop", f"user@{uid}.service")
