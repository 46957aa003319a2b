"""Configs, and edits of them: what refgenie does, what people do, and garbage."""

from hypothesis import strategies as st

GROUP = """\
      {group}:
        asset_description: '{group}, it''s
          folded'
        tags:
          default:
            asset_digest: {digest:032x}
            seek_keys: {{{group}: a.fa, fai: a.fa.fai}}
"""


def genome(name: str, groups: list[str]) -> str:
    body = "".join(GROUP.format(group=group, digest=hash((name, group)) & (1 << 100)) for group in groups)
    return f"  {name}:\n    aliases:\n    - {name}x\n    assets:\n{body}    genome_description: of it\n"


def config(**genomes: list[str]) -> bytes:
    body = "".join(genome(name, groups) for name, groups in genomes.items())
    return f"config_version: 0.4\ngenomes:\n{body}genome_servers:\n- http://x\n".encode()


ODD = b"""genomes:
    aaa:
        assets:
            f: 1
            h:
            - 1
            i: 4
            j: >-
              x

            k: |+
              x

# c
            l:
              - 'x

                y'
    bbb:
      assets:
         a: {x: y,
           z: w}
         b: {}
    ccc: {assets: {f: 1}}
"""
BASES = [config(aaa=["f", "g", "h"], bbb=["f"], ccc=["f", "q"]), config(all=[f"g{n}" for n in range(12)]), ODD]

PIECES = [
    "\n", " ", "  ", "      ", "#", "# c\n", "'", '"', "|", "|+\n", ">", "&a ", "*a", "<<: ", "{", "}", "[", "]", ",",
    "é",
    "- ", ": ", "? ", "---\n", "\n...\n", "%YAML\n", "\t", "\r\n", "\x85", "\u2028", "!!str ", "!x ", "\ufeff", "\0",
    "      new:\n        tags: {}\n", "      f:\n        tags: {}\n",
    "  ddd:\n    assets:\n      q: 1\n", "  aaa: {}\n",
    "    assets:\n      q: 1\n", "genomes:\n", "x: y\n", "    aliases: [q]\n", "010", "~", "a", "      '", "      - \n",
    "      foo\n", "      ? a\n", "     q: 1\n", "       q: 1\n", "            q: 1\n", "        tags: 1\n",
]  # fmt: skip


def edited(text: bytes, at: float, kind: str, length: int, piece: str) -> bytes:
    """The text after one edit; `at` is a place in it."""
    if kind == "bytes":
        here = int(at * len(text))
        return text[:here] + piece.encode() + text[here + length :]
    lines = text.split(b"\n")
    here = int(at * len(lines))
    if kind == "insert":
        lines[here:here] = [piece.encode().rstrip(b"\n")]
    elif kind == "delete":
        del lines[here : here + length]
    else:
        lines[here:here] = lines[here + length : here + 2 * length]
    return b"\n".join(lines)


edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["bytes", "insert", "delete", "copy"]),
        st.sampled_from([0, 0, 1, 2, 7, 8]),
        st.sampled_from(PIECES) | st.text("ab:#'\n {-|", max_size=4),
    ),
    min_size=1,
    max_size=3,
)
