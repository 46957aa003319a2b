"""The codecs: each content gets its own, each block is a plain gzip member, and nothing but the content decides."""

import gzip
import random
import subprocess
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from packing import make_tree, noise, publish

from refgenied.archive.format.blocks import BLOCK_SIZE
from refgenied.archive.format.codec import Compression, ContentAware, Libdeflate, decompress
from refgenied.archive.format.content import Content, content_of, glance


def bases(size: int, seed: int = 1, letters: bytes = b"ACGT") -> bytes:
    """DNA in lines of 60."""
    sequence = random.Random(seed).choices(letters, k=size)
    return b"\n".join(bytes(sequence[at : at + 60]) for at in range(0, size, 60)) + b"\n"


def masked(size: int) -> bytes:
    rng, block, at = random.Random(2), bytearray(bases(size)), 0
    while at < size:
        end = at + rng.randrange(20, 900)
        block[at:end] = block[at:end].lower()
        at = end + rng.randrange(20, 900)
    return bytes(block)


def words(size: int) -> bytes:
    rng = random.Random(3)
    rows = (f'chr1\tHAVANA\texon\t{at * 37}\tgene_id "ENSG{at // 9:011}"; tag "basic";\n' for at in range(size))
    return "".join(f"{row[:-1]} {rng.randrange(9)}\n" for row in rows).encode()[:size]


def little_endian(size: int) -> bytes:
    """A suffix array: numbers of four bytes without any order."""
    rng = random.Random(4)
    return b"".join(rng.randrange(1 << 24).to_bytes(4, "little") for _ in range(size // 4))


BLOCK = 100_000
CONTENTS = {
    "upper": (Content.BASES, bases(BLOCK)),
    "lower": (Content.BASES, bases(BLOCK).lower()),
    "ambiguous": (Content.BASES, bases(BLOCK).replace(b"A\n", b"R\n")),
    "masked": (Content.MASKED, masked(BLOCK)),
    "N": (Content.TEXT, (b"N" * 60 + b"\n") * 3000),
    "tandem": (Content.TEXT, (bases(171).replace(b"\n", b"") * 3000)[:BLOCK]),
    "gtf": (Content.TEXT, words(BLOCK)),
    "zeros": (Content.TEXT, bytes(BLOCK)),
    "sequences-and-names": (Content.MIXED, b"".join(b">contig%d\n" % n + bases(90, n) for n in range(900))),
    "numbers": (Content.DENSE, little_endian(BLOCK)),
    "noise": (Content.PACKED, noise(BLOCK)),
    "gzip": (Content.PACKED, gzip.compress(bases(BLOCK * 3), 6)),
    "nothing": (Content.BASES, b""),
}


@pytest.mark.parametrize(("content", "block"), CONTENTS.values(), ids=CONTENTS)
def test_the_content_is_told(content, block):
    assert content_of(memoryview(block)) is content


def test_a_short_odd_part_does_not_speak_for_the_block():
    block = b"N" * 30_000 + bases(1_000_000)
    assert content_of(memoryview(block)) is Content.BASES


def among(content: bytes, header: Callable[[], bytes], piece: int) -> tuple[bytes, list[tuple[int, int]]]:
    """The content as many files with a header before each, and where it is in that."""
    block, spans = bytearray(), []
    for begin in range(0, len(content), piece):
        block += header()
        spans.append((len(block), len(block) + len(content[begin : begin + piece])))
        block += content[begin : begin + piece]
    return bytes(block), spans


@pytest.mark.parametrize("kind", [content_of, glance])
@pytest.mark.parametrize("content", [block for _, block in CONTENTS.values() if block], ids=list(CONTENTS)[:-1])
@pytest.mark.parametrize("piece", [100, 700, 5_000, 60_000])
def test_headers_have_no_part_in_it(kind, content, piece):
    """Whatever is in them, their times for one: only how many bytes they are."""
    rng = random.Random(6)
    headers = [lambda: bytes(512), lambda: rng.randbytes(512), lambda: bases(512)[:512], lambda: b"N" * 512]
    blocks = [among(content[:BLOCK], header, piece) for header in headers]
    assert len({kind(memoryview(block), spans) for block, spans in blocks}) == 1


def test_a_few_headers_do_not_change_the_kind_and_many_do():
    for name, piece, kind in (
        ("upper", 60_000, Content.BASES),
        ("upper", 5_000, Content.MIXED),  # letters by their frequencies alone would be wrong for the headers
        ("masked", 5_000, Content.MIXED),
        ("noise", 5_000, Content.DENSE),
        ("gtf", 5_000, Content.TEXT),
        ("upper", 100, Content.TEXT),
        ("noise", 100, Content.TEXT),
    ):
        block, spans = among(CONTENTS[name][1], lambda: bytes(512), piece)
        assert content_of(memoryview(block), spans) is kind, (name, piece)
    assert content_of(memoryview(bytes(5_000)), []) is Content.TEXT, "folders and links alone"


class Looking(Libdeflate):
    """Keeps what it was told of each block's content."""

    def __init__(self) -> None:
        super().__init__(1)
        self.content = b""

    def compress(self, block, spans=None):
        assert all(end <= len(block) for _, end in spans), spans
        self.content += b"".join(bytes(block[begin:end]) for begin, end in spans)
        return super().compress(block, spans)


def test_a_codec_is_told_where_the_files_content_is(tmp_path):
    members = {b"a": b"", b"b": b"1", b"c": noise(3_000_000), b"d/e": noise(700), b"f": noise(BLOCK_SIZE), b"l": "b"}
    codec = Looking()
    publish(make_tree(tmp_path / "source", members), tmp_path / "archives", codec=codec, threads=1)
    assert codec.content == b"".join(content for content in members.values() if isinstance(content, bytes))


def test_the_sample_is_spread_evenly_over_the_content():
    """What is in one file of many does not speak for all, wherever the files' ends are."""
    content = b"".join((bases if number % 10 else noise)(3_000) for number in range(300))
    for piece in (3_000, 1_777, 500_000):
        block, spans = among(content, lambda: bytes(3), piece)
        assert content_of(memoryview(block), spans) is content_of(memoryview(content)), piece


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("block", [block for _, block in CONTENTS.values()], ids=CONTENTS)
def test_each_block_is_a_plain_gzip_member(compression, block):
    member = bytes(ContentAware(compression).compress(block))
    assert member[:8] == b"\x1f\x8b\x08\x00\0\0\0\0"  # no name, no time
    stream = zlib.decompressobj(31)
    assert (stream.decompress(member), stream.eof, stream.unused_data) == (block, True, b"")
    assert bytes(decompress(member, len(block))) == block
    assert subprocess.run(["gzip", "-dc"], input=member, capture_output=True, check=True).stdout == block


@pytest.mark.parametrize("compression", Compression)
def test_threads_at_once_give_the_same_bytes(compression):
    codec = ContentAware(compression)
    blocks = [block for _, block in CONTENTS.values()] * 3
    alone = [bytes(codec.compress(block)) for block in blocks]
    with ThreadPoolExecutor(8) as pool:
        assert [bytes(member) for member in pool.map(ContentAware(compression).compress, blocks)] == alone


def test_balanced_is_smaller_than_zlib_where_it_matters():
    by_zlib = {name: len(zlib.compress(block, 6)) for name, (_, block) in CONTENTS.items()}
    ours = {name: len(ContentAware().compress(block)) for name, (_, block) in CONTENTS.items()}
    assert ours["upper"] < 0.95 * by_zlib["upper"]
    assert ours["lower"] < 0.95 * by_zlib["lower"]
    for name, size in ours.items():
        assert size < 1.06 * by_zlib[name] + BLOCK * 0.01, name


def test_nothing_grows_by_more_than_a_thousandth():
    block = noise(BLOCK_SIZE)
    for compression in Compression:
        assert len(ContentAware(compression).compress(block)) < BLOCK_SIZE * 1.001


def test_each_preset_is_smaller_than_the_faster_one():
    for name in ("masked", "gtf", "sequences-and-names"):
        block = CONTENTS[name][1]
        fast, balanced, small = (len(ContentAware(compression).compress(block)) for compression in Compression)
        assert fast > balanced > small, name


@pytest.mark.parametrize("compression", Compression)
def test_the_archive_is_the_same_for_any_number_of_threads(compression, tmp_path):
    members = {
        b"a.fa": bases(BLOCK) * 30,
        b"b.fa": masked(BLOCK) * 15,
        b"c.gtf": words(BLOCK) * 15,
        b"d": noise(2_000_000),
    }
    source = make_tree(tmp_path / "source", members)
    manifests = [
        publish(source, tmp_path / f"a{threads}.{turn}", codec=ContentAware(compression), threads=threads).manifest
        for threads, turn in ((1, 0), (2, 0), (8, 0), (8, 1))
    ]
    assert len({manifest.digest for manifest in manifests}) == 1
    assert manifests[0].codec.name == compression


def test_the_record_names_what_is_needed_to_make_it_again():
    record = ContentAware().record
    assert record.name == "balanced"
    assert record.library.startswith("zlib-ng huffman, zlib-ng 5 in 8 KiB, ")
    assert {part.split()[0] for part in record.version.split(", ")} == {"zlib-ng", "deflate"}
    assert Libdeflate(7).record.level == 7


@pytest.mark.parametrize("name", ["upper", "masked", "gtf", "noise"])
def test_a_damaged_block_is_never_taken_for_its_content(name):
    block = CONTENTS[name][1]
    member = bytes(ContentAware().compress(block))
    rng = random.Random(5)
    for at in [*range(4), *rng.choices(range(10, len(member)), k=60), *range(len(member) - 8, len(member))]:
        damaged = bytearray(member)
        damaged[at] ^= 1 << rng.randrange(8)
        assert decompress(bytes(damaged), len(block)) in (None, block), at
    for size in (0, 17, len(member) // 2, len(member) - 1):
        assert decompress(member[:size], len(block)) is None


@pytest.mark.parametrize("head", [b"\4\3", b"\0\xff"], ids=["huffman", "other"])
def test_a_block_that_holds_more_than_it_says_is_damage(head):
    bomb = bytearray(gzip.compress(bytes(50_000_000), 1, mtime=0))
    bomb[8:10] = head
    assert decompress(bytes(bomb), BLOCK_SIZE) is None
    bomb[-4:] = (1000).to_bytes(4, "little")
    assert decompress(bytes(bomb), BLOCK_SIZE) is None


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_member_whose_last_bytes_name_another_size_is_damaged(wrong):
    member = bytearray(Libdeflate(6).compress(b"ACGT" * 100))
    assert decompress(bytes(member), BLOCK_SIZE) == b"ACGT" * 100
    member[-4:] = (400 + wrong).to_bytes(4, "little")
    assert decompress(bytes(member), BLOCK_SIZE) is None
