"""The real refgenieserver serves the archive folder, the real refgenie pulls from it, and pulls are counted."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PATIENCE, Lab
from refgenie_cli import LAMBDA, Refgenie, recipe_of
from server_lab import Process, Puller, files_of, plain, serve

from refgenied.serve.segments import Segments

pytestmark = pytest.mark.needs("refgenie", "refgenieserver")

DEBIAN = pytest.mark.needs("samtools", "bowtie2-build", "bwa", "lambda")


@pytest.fixture
def servers() -> Iterator[list[Process]]:
    """Those that a test appends are stopped at its end."""
    started: list[Process] = []
    yield started
    for server in started:
        server.close()


def md5s(folder: Path) -> dict[str, str]:
    return {name: hashlib.md5(data).hexdigest() for name, data in files_of(folder).items()}


def counted(lab: Lab, path: str, number: int) -> None:
    """Wait until the daemon has so many downloads of it, and see that there are no more."""
    deadline = time.monotonic() + 15
    while lab.archive(path)["download_count"] < number and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lab.archive(path)["download_count"] == number


@DEBIAN
def test_lambda_is_built_archived_served_and_pulled(lab: Lab, fresh_refgenie: Refgenie, servers: list[Process]) -> None:
    refgenie = fresh_refgenie
    lab.start()
    refgenie("build", "lambda/fasta", "--files", f"fasta={LAMBDA}")
    refgenie("build", "lambda/bowtie2_index")
    refgenie("build", "lambda/bwa_index")
    groups = ("fasta", "bowtie2_index", "bwa_index")
    for group in groups:
        lab.archived(f"lambda/{group}")
    server = serve(lab)
    servers.append(server)
    puller = Puller(lab, "puller", server)
    for group in groups:
        puller.pull(f"lambda/{group}")
        assert md5s(puller.asset(f"lambda/{group}")) == md5s(refgenie.folder(f"lambda/{group}")), group
        counted(lab, f"lambda/{group}", 1)
    assert Path(puller.seek("lambda/fasta")).read_bytes() == Path(seek(refgenie, "lambda/fasta")).read_bytes()

    reads = lab.root / "read.fq"
    reads.write_text(f"@one\n{lambda_bases(1000, 60)}\n+\n{'I' * 60}\n", encoding="ascii")
    index = puller.seek("lambda/bowtie2_index")
    said = subprocess.run(["bowtie2", "-x", index, "-U", str(reads)], capture_output=True, text=True, check=True)
    aligned = [line.split("\t") for line in said.stdout.splitlines() if not line.startswith("@")]
    assert [(row[0], row[3], row[5]) for row in aligned] == [("one", "1001", "60M")]

    fasta = puller.seek("lambda/bwa_index")
    link = next(path for path in puller.asset("lambda/bwa_index").iterdir() if path.suffix == ".fa")
    assert str(lab.genomes) not in str(link.resolve()), "it still points to where it was built"
    said = subprocess.run(["bwa", "mem", fasta, str(reads)], capture_output=True, text=True, check=True)
    aligned = [line.split("\t") for line in said.stdout.splitlines() if not line.startswith("@")]
    assert [(row[0], row[3], row[5]) for row in aligned] == [("one", "1001", "60M")]

    digest = refgenie.digest("lambda")
    for page in (
        "/",
        "/index",
        "/v1/index",
        "/v2/index",
        "/v3/index",
        f"/v3/genomes/splash/{digest}",
        f"/v3/assets/splash/{digest}/bwa_index",
        f"/v2/asset/{digest}/fasta/splash",
    ):
        status, body = server.get(page)
        assert status == 200, page
        assert b"lambda" in body or digest.encode() in body, page
    for group in groups:
        assert group.encode() in server.get(f"/v3/genomes/splash/{digest}")[1]
    names = set(server.json(f"/v3/assets/dir_contents/{digest}/bowtie2_index"))
    assert names == set(files_of(refgenie.folder("lambda/bowtie2_index")))
    assert set(server.json(f"/v3/assets/recipe/{digest}/bwa_index")["assets"]) == {"bwa_index"}
    assert b"bwa index" in server.get(f"/v3/assets/log/{digest}/bwa_index")[1]
    fasta_of = server.json(f"/v3/assets/attrs/{digest}/bwa_index")["asset_parents"]
    assert fasta_of == [f"{digest}/fasta:default"]
    assert len(server.json(f"/v3/assets/attrs/{digest}/fasta")["asset_children"]) == 2


def seek(refgenie: Refgenie, path: str) -> str:
    return refgenie("seek", path).strip().splitlines()[-1]


def lambda_bases(first: int, number: int) -> str:
    text = subprocess.run(["gzip", "-dc", str(LAMBDA)], capture_output=True, text=True, check=True).stdout
    return "".join(text.splitlines()[1:])[first : first + number]


@pytest.mark.needs("root", "unshare")
def test_the_plain_server_serves_the_folder(
    lab: Lab, refgenie: Refgenie, servers: list[Process], tmp_path: Path
) -> None:
    lab.start()
    refgenie.rounds("demo/parts:2.5", 1, recipe=recipe_of(tmp_path, "parts"))
    lab.archived("demo/fasta")
    lab.archived("demo/parts:2.5")
    server = plain(lab)
    servers.append(server)
    puller = Puller(lab, "puller", server)
    for path in ("demo/fasta:default", "demo/parts:2.5"):
        puller.pull(path)
        assert files_of(puller.asset(path)) == files_of(refgenie.folder(path))
    digest = refgenie.digest("demo")
    assert server.json(f"/v3/assets/default_tag/{digest}/parts") == 2.5  # as text, without quotes
    assert server.json(f"/v3/assets/dir_contents/{digest}/parts") == [f"part{n}.bin" for n in range(4)]
    assert server.json(f"/v3/assets/recipe/{digest}/parts")["name"] == "parts"
    assert server.get(f"/v3/assets/log/{digest}/parts")[0] == 200


def test_a_rebuild_under_a_pulling_client_never_mismatches(
    lab: Lab, refgenie: Refgenie, servers: list[Process], tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, "parts", files=2, size=200_000)
    refgenie.rounds("demo/parts", 1, recipe=recipe)
    lab.start()
    lab.archived("demo/fasta")
    lab.archived("demo/parts")
    server = serve(lab)
    servers.append(server)
    puller = Puller(lab, "puller", server)
    puller.pull("demo/fasta")
    contents = {round_of(refgenie.folder("demo/parts"))}
    seen: list[bytes] = []
    pulled = threading.Condition()
    stop = threading.Event()
    problems: list[str] = []

    def pull() -> None:
        while not stop.is_set():
            said = puller.pull("demo/parts")
            with pulled:
                if "mismatch" in said or "ERROR" in said or "Extracting" not in said:
                    problems.append(said)
                seen.append(round_of(puller.asset("demo/parts")))
                pulled.notify()

    thread = threading.Thread(target=pull)
    thread.start()
    try:
        for number in range(2, 6):
            refgenie.rounds("demo/parts", number, "-N", recipe=recipe)
            lab.archived("demo/parts")
            contents.add(round_of(refgenie.folder("demo/parts")))
            with pulled:
                enough = len(seen) + 2
                pulled.wait_for(lambda enough=enough: len(seen) >= enough or problems, PATIENCE)
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not problems, problems[0]
    assert set(seen) <= contents
    assert seen[-1] == round_of(refgenie.folder("demo/parts")), "the newest one came at last"
    assert len(set(seen)) >= 3


def round_of(folder: Path) -> bytes:
    return hashlib.md5(b"".join(data for _, data in sorted(files_of(folder).items()))).digest()


def test_fifty_pulls_from_four_clients_are_fifty(
    lab: Lab, refgenie: Refgenie, servers: list[Process], tmp_path: Path
) -> None:
    lab.start()
    refgenie.rounds("demo/parts", 1, recipe=recipe_of(tmp_path, "parts", files=2, size=150_000))
    lab.archived("demo/fasta")
    lab.archived("demo/parts")
    server = serve(lab)
    servers.append(server)
    url = f"/v3/assets/archive/{refgenie.digest('demo')}/parts?tag=default"
    left = threading.Semaphore(50 - 4)
    problems: list[BaseException] = []

    def pull(number: int) -> None:
        """A real pull, then what refgenie's client does, as it does it, with the library it uses."""
        try:
            Puller(lab, f"puller{number}", server).pull("demo/parts")
            while left.acquire(blocking=False):
                imitated_pull(server.url + url, lab.root / f"got{number}.tgz")
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert not problems
    counted(lab, "demo/parts", 50)
    row = lab.archive("demo/parts")
    assert row["registry_path"].endswith("/parts:default")
    assert "downloads       50" in lab.ctl("archive", "show", "demo/parts").out

    refgenie.rounds("demo/parts", 2, "-N", recipe=recipe_of(tmp_path, "parts", files=2, size=150_000))
    assert lab.archived("demo/parts")["digest"] != row["digest"]
    counted(lab, "demo/parts", 50)
    assert lab.ctl("archive", "remove", "demo/parts", "--delete-file").code == 0
    assert lab.ctl("archive", "create", "demo/parts", "--served").code == 0
    counted(lab, "demo/parts", 50)


def imitated_pull(url: str, to: Path) -> None:
    """refgenconf's `_download_url_progress`."""
    from urllib.request import urlopen, urlretrieve  # noqa: PLC0415

    probe = urlopen(url)
    assert int(probe.info().get("Content-length")) > 0
    probe.close()
    urlretrieve(url, filename=to)


def test_the_server_goes_on_without_the_daemon_and_loses_no_download(
    lab: Lab, refgenie: Refgenie, servers: list[Process], tmp_path: Path
) -> None:
    daemon = lab.start()
    lab.archived("demo/fasta")
    server = serve(lab)
    servers.append(server)
    daemon.kill()
    puller = Puller(lab, "puller", server)
    puller.pull("demo/fasta")
    assert files_of(puller.asset("demo/fasta")) == files_of(refgenie.folder("demo/fasta"))
    deadline = time.monotonic() + 60
    while server.json("/health")["downloads_problem"] == "":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    health = server.json("/health")
    assert (health["status"], health["downloads_waiting"]) == ("ok", 1)
    assert server.stop() == 0
    assert Segments(lab.root / "serve-state/downloads").open() == 1
    lab.start()
    again = serve(lab)
    servers.append(again)
    counted(lab, "demo/fasta", 1)
    while again.json("/health")["downloads_waiting"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((lab.root / "serve-state/downloads").iterdir())
