"""The config as parts that change one by one. Joined, they are what `render_config` makes of the whole tree.

What depends on several entries is brought up by `settle`: a group's description and default asset, and the aliases, of
which each belongs to one genome. It costs what has changed, and a little for each genome when an alias has.
"""

import sys
from collections.abc import Iterable, Sequence

from refgenied.catalog import others
from refgenied.catalog.entry import ServedEntry
from refgenied.catalog.parts import OF_TAG, GenomePart, Genomes, GroupPart, Head, TagPart, group_of, mark_of
from refgenied.catalog.rendering import ConfigTree, opened, rendered
from refgenied.catalog.sound import default_asset, is_servable, not_served, sound_aliases, sound_tag, sound_top, told
from refgenied.model import AssetKey, Genome

CONFIG_VERSION = 0.4
_LAST = ("genome_servers", "remotes")
"""The keys after the genomes and our notes."""


class Parted:
    """`take_in`, `put`, `stay`, `drop` and `name` change the content. `settle` brings the rest up for `joined`."""

    def __init__(self) -> None:
        self.genomes: Genomes = {}
        self.changed = True
        """Whether the text may differ from the text that was joined last."""
        self.lines: tuple[str, ...] = ()
        """What was repaired or left out, because the server refuses it."""
        self.number = 0
        """How many entries are ours."""
        self._mended = 0
        """How many entries of ours have a value that the server refuses."""
        self._mended_others = 0
        """How many entries of other programs were repaired since the last `settle`."""
        self._lost: dict[tuple[str, str], set[str]] = {}
        """Group → entries of other programs that were left out since then."""
        self._dirty: set[tuple[str, str]] = set()
        self._dirty_genomes: set[str] = set()
        self._named_anew = True
        """Whether the aliases of all genomes must be given out again."""
        self._alias_lines: list[str] = []
        self._top_keys = others.TopKeys({}, remotes_are_ours=False)
        self._top = self._last = b""

    def at(self, key: AssetKey) -> TagPart | None:
        group = group_of(self.genomes, key)
        return group.at(key.asset) if group else None

    def keys(self, digests: Iterable[str] | None = None) -> set[AssetKey]:
        """All entries, also those of other programs. `digests`: only those of these genomes."""
        genomes = self.genomes if digests is None else self.genomes.keys() & set(digests)
        groups = ((digest, *item) for digest in genomes for item in self.genomes[digest].groups.items())
        return {AssetKey(digest, name, part.name) for digest, name, group in groups for part in group.tags}

    # ----------------------------------------------------------------- changes

    def put(self, entry: ServedEntry, made_of: int, *, paged: bool) -> None:
        """Add or replace an entry of ours; keys that other people have added to it stay. ValueError."""
        key = entry.key
        old = self.at(key)
        more = None
        if old is not None and old.others:
            more = {name: value for name, value in old.others.items() if name not in OF_TAG} or None
        whole = entry.tag | (more or {})
        body = sound_tag(key.asset_group, whole)
        mended = body is not whole
        text = rendered({key.asset: body}, 5)
        name = sys.intern(key.asset)
        part = TagPart(name, text, made_of, entry.description, more, ours=True, mended=mended, paged=paged)
        self._mended += mended - (old.mended if old else False)
        self.number += not (old and old.ours)
        if old is None or not old.ours or old.description != part.description:
            self._dirty.add((key.genome_digest, key.asset_group))
        self.changed |= old is None or old.text != text
        self._group(key).put(part)

    def stay(self, key: AssetKey) -> None:
        """An entry of another program stays, as far as the server can use it."""
        part = self.at(key)
        if part is None or part.ours or part.others is None:
            return
        body = sound_tag(key.asset_group, part.others)
        self._mended_others += body is not part.others
        if not is_servable(body):
            self._lost.setdefault((key.genome_digest, key.asset_group), set()).add(key.asset)
            self.drop(key)
            return
        text = rendered({key.asset: body}, 5)
        if text != part.text:
            part.text, part.others = text, body
            self._dirty.add((key.genome_digest, key.asset_group))
            self.changed = True

    def drop(self, key: AssetKey) -> TagPart | None:
        """Take an entry out, and return it if there was one."""
        group = group_of(self.genomes, key)
        part = group.at(key.asset) if group else None
        if group is not None and part is not None:
            group.drop(part)
            self._mended -= part.mended
            self.number -= part.ours
            self.changed = True
            self._dirty.add((key.genome_digest, key.asset_group))
        return part

    def name(self, genome: Genome) -> None:
        """Take what is known of a genome now. A genome without entries is not kept."""
        part = self.genomes.get(genome.digest)
        if part is None or part.genome is genome or part.genome == genome:
            return
        before, part.genome = part.genome, genome
        if before.default_assets != genome.default_assets:
            now, then = genome.default_assets, before.default_assets
            self._dirty.update((genome.digest, name) for name in part.groups if now.get(name) != then.get(name))
        self._named_anew |= before.aliases != genome.aliases
        self._dirty_genomes.add(genome.digest)

    def take_in(self, tree: ConfigTree) -> None:
        """Take over a file that was read. Then each entry that is not ours awaits `put`, `stay` or `drop`."""
        self._top_keys = others.take_in(self.genomes, tree)
        self._dirty.update((digest, name) for digest, part in self.genomes.items() for name in part.groups)
        self._dirty_genomes.update(self.genomes)
        self.changed = self._named_anew = True

    def _genome(self, digest: str) -> GenomePart:
        part = self.genomes.get(digest)
        if part is None:
            part = self.genomes[digest] = GenomePart(Genome(digest), {})
            self._dirty_genomes.add(digest)
            self._named_anew = True
        return part

    def _group(self, key: AssetKey) -> GroupPart:
        groups = self._genome(key.genome_digest).groups
        if key.asset_group not in groups:
            groups[sys.intern(key.asset_group)] = GroupPart()
            self._dirty.add((key.genome_digest, key.asset_group))
        return groups[key.asset_group]

    # ----------------------------------------------------------------- all that depends on several entries

    def settle(self, head: Head) -> None:
        """Bring up what stands around the entries. After it, `changed` says whether the text is another."""
        lines = self._settle_top(head)
        for digest, name in sorted(self._dirty):
            part = self.genomes.get(digest)
            group = part.groups.get(name) if part else None
            if part is None or group is None:
                continue
            if group.tags:
                lines += self._settle_group(part.genome, name, group)
            else:
                del part.groups[name]
                self.changed = True
        touched = self._dirty_genomes.union(digest for digest, _ in self._dirty)
        for digest in [digest for digest in touched & self.genomes.keys() if not self.genomes[digest].groups]:
            del self.genomes[digest]
            self._named_anew = self.changed = True
        if self._named_anew:
            self._give_aliases()
        for digest in self._dirty_genomes & self.genomes.keys():
            self._settle_genome(digest)
        if self.changed:
            self.lines = told(
                [*lines, *self._alias_lines],
                mended=self._mended + self._mended_others,
                left_out=sum(map(len, self._lost.values())),
            )
        self._dirty.clear()
        self._dirty_genomes.clear()
        self._lost.clear()
        self._mended_others = 0
        self._named_anew = False

    def _settle_top(self, head: Head) -> list[str]:
        tree: ConfigTree = {
            "config_version": CONFIG_VERSION,
            "genome_folder": head.genome_folder,
            "genome_archive_folder": head.archive_folder,
        }
        more = self._top_keys.others
        tree |= {name: value for name, value in more.items() if name not in tree}
        if head.remotes:
            tree["remotes"] = {name: {"prefix": prefix.rstrip("/")} for name, prefix in head.remotes.items()}
        sound, lines = sound_top(tree)
        last = {name: sound.pop(name) for name in _LAST if name in sound}
        top = rendered(sound)
        end = (rendered({"remotes": True}, 1) if head.remotes else b"") + (rendered(last) if last else b"")
        self.changed |= (top, end) != (self._top, self._last)
        self._top, self._last = top, end
        theirs = {name: last[name] for name in _LAST if name in more and name in last}  # a repair is told once
        if head.remotes:
            theirs.pop("remotes", None)
        kept = {name: value for name, value in more.items() if name not in _LAST}
        self._top_keys = others.TopKeys(kept | theirs, bool(head.remotes))
        return lines

    def _settle_group(self, genome: Genome, name: str, group: GroupPart) -> list[str]:
        lines: list[str] = []
        path = f"{genome.digest}/{name}"
        wanted = genome.default_assets.get(name) or group.default or "default"
        tags = {part.name: part for part in group.tags}
        default = tags[default_asset(wanted, tags)]
        if lost := self._lost.get((genome.digest, name)):
            meant = wanted if wanted in lost or default.name == wanted else min(*lost, group.tags[0].name)
            if meant in lost:
                lines.append(not_served(path, meant, default.name))
        text = default.description or next((part.description for part in group.tags if part.description), "")
        group.default = default.name
        group.description, group.theirs = _text_of(text, group.description, theirs=group.theirs)
        body: ConfigTree = {"asset_description": group.description, "default_tag": default.name, "tags": {}}
        self._put_around(group, 3, path, {name: body})
        return lines

    def _settle_genome(self, digest: str) -> None:
        part = self.genomes[digest]
        part.description, part.theirs = _text_of(part.genome.description, part.description, theirs=part.theirs)
        body: ConfigTree = {"aliases": list(part.aliases), "genome_description": part.description, "assets": {}}
        self._put_around(part, 1, digest, {digest: body})

    def _put_around(self, part: GroupPart | GenomePart, level: int, slot: str, body: ConfigTree) -> None:
        """Render what stands before and behind the entries of a part, and its mark."""
        made = (
            opened(body, level),
            rendered(part.others, level + 1) if part.others else b"",
            _mark_line(slot, part.description, theirs=part.theirs),
        )
        if made != (part.head, part.tail, part.mark):
            part.head, part.tail, part.mark = made
            self.changed = True

    def _give_aliases(self) -> None:
        """Give each alias to one genome. A genome that has none now keeps those in the file."""
        wanted: dict[str, Sequence[object]] = {}
        for digest in sorted(self.genomes):
            part = self.genomes[digest]
            wanted[digest] = part.genome.aliases or [str(alias) for alias in part.aliases]
        aliases, self._alias_lines = sound_aliases(wanted)
        for digest, part in self.genomes.items():
            given = tuple(aliases[digest])
            if given != part.aliases:
                part.aliases = given
                self._dirty_genomes.add(digest)

    # ----------------------------------------------------------------- the text

    def joined(self) -> bytes:
        """The file's bytes. Call `settle` first."""
        pieces = [self._top, b"genomes:\n" if self.genomes else b"genomes: {}\n"]
        marks: list[bytes] = []
        for digest in sorted(self.genomes):
            part = self.genomes[digest]
            pieces.append(part.head)
            for name in sorted(part.groups):
                group = part.groups[name]
                pieces.append(group.head)
                pieces += [tag.text for tag in group.tags]
                pieces.append(group.tail)
                marks.append(group.mark)
            pieces.append(part.tail)
            marks.append(part.mark)
        described = b"".join(marks)
        ours = b"refgenied:\n  descriptions:%b\n" % (b"" if described else b" {}")
        return b"".join((*pieces, ours, described, self._last))


def _text_of(ours: str, there: str, *, theirs: bool) -> tuple[str, bool]:
    """A description, and whether another person wrote it: a person's text, else ours, else our earlier text."""
    if there and there != ours and theirs:
        return there, True
    return ours or there, False


def _mark_line(slot: str, text: str, *, theirs: bool) -> bytes:
    return rendered({slot: mark_of(text)}, 2) if text and not theirs else b""
