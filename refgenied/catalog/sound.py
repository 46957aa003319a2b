"""Makes a config that refgenieserver 0.8.0 can use. One odd value of one entry breaks its answers about all entries.

One genome without an alias makes its list of all assets fail (500). One description that is a number makes its front
page fail. Such values are repaired or left out, and `lines` names them.

What is sound already is not copied: `tree` shares it with the given config. Of two configs that share most of their
groups (the same objects), the second costs what differs when the first one's `Sound` is given as `before`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from refgenied.catalog.faults import first_lines
from refgenied.catalog.rendering import ConfigTree

_RELATIVE = re.compile(r"(?:[^/:\s]+/)?[^/:\s]+(?::[^/:\s]+)?")
"""A parent or child that its pages can show."""


class _Told(NamedTuple):
    """What was found wrong in a part of the config."""

    lines: tuple[str, ...] = ()
    left_out: int = 0
    """Entries without the digest or size of their archives."""
    mended: int = 0
    """Entries with a value that was replaced."""

    def and_(self, other: "_Told") -> "_Told":
        return _Told(self.lines + other.lines, self.left_out + other.left_out, self.mended + other.mended)


_NOTHING = _Told()


class _Group(NamedTuple):
    given: object
    body: ConfigTree
    told: _Told


class _Genome(NamedTuple):
    given: object
    groups: dict[str, _Group]
    body: ConfigTree
    """With the aliases as they are in the config: another genome may have them already."""
    told: _Told


class Sound:
    """`tree` is the sound config; the given config is not changed, and neither may be changed afterwards.

    `before`: the `Sound` of an earlier config. Genomes and groups that are the same objects as in it are not looked at.
    """

    def __init__(self, config: ConfigTree, before: "Sound | None" = None) -> None:
        self.tree, lines = sound_top(config)
        old: dict[str, _Genome] = before._genomes if before else {}  # noqa: SLF001 - of its own class
        given = {str(digest): body for digest, body in mapping(config.get("genomes")).items()}
        self._genomes = {digest: _genome(digest, body, old.get(digest)) for digest, body in given.items()}
        whole = {digest: genome.body for digest, genome in self._genomes.items() if genome.body["assets"]}
        found = _NOTHING
        for genome in self._genomes.values():
            if genome.told is not _NOTHING:
                found = found.and_(genome.told)
        given_aliases, alias_lines = sound_aliases({digest: body["aliases"] for digest, body in whole.items()})
        for digest, body in whole.items():
            aliases = given_aliases[digest]
            if aliases != body["aliases"]:
                was = mapping(before.tree["genomes"].get(digest)) if before else {}
                same = was.get("aliases") == aliases and old[digest].body is body
                whole[digest] = was if same else {**body, "aliases": aliases}
        self.tree["genomes"] = whole
        self.lines = told([*lines, *found.lines, *alias_lines], mended=found.mended, left_out=found.left_out)
        """Which values were repaired or left out."""


# --------------------------------------------------------------------- parts, also for a config that is made of parts


def told(lines: Sequence[str], *, mended: int, left_out: int) -> tuple[str, ...]:
    """What was repaired or left out, in few lines. `mended`, `left_out`: numbers of entries."""
    counts = (
        ("entries with values that refgenieserver cannot show are mended", mended),
        ("entries without the digest or size of their archives are left out", left_out),
    )
    return (*first_lines(lines, "more such lines"), *(f"{what} ({number})" for what, number in counts if number))


def sound_top(config: ConfigTree) -> tuple[ConfigTree, list[str]]:
    """The config with sound servers and remotes, which come last, and lines about those that are left out."""
    tree = dict(config)
    servers: Any = tree.pop("genome_servers", None)
    if isinstance(servers, list):
        servers = [url for url in cast("list[object]", servers) if isinstance(url, str)]
    if isinstance(servers, str | list):
        tree["genome_servers"] = servers
    remotes, lines = _remotes(tree.pop("remotes", None))
    if remotes:  # with an empty mapping refgenieserver finds no file at all
        tree["remotes"] = remotes
    return tree, lines


def _remotes(value: object) -> tuple[dict[str, dict[str, str]], list[str]]:
    remotes = {str(name): mapping(remote) for name, remote in mapping(value).items()}
    sound = {
        name: {str(key): str(text) for key, text in remote.items() if _is_scalar(text)}
        for name, remote in remotes.items()
        if isinstance(remote.get("prefix"), str)
    }
    lines = [f"the remote {name} has no prefix, and is left out" for name in sorted(remotes.keys() - sound.keys())]
    if sound and "http" not in sound:
        lines.append("no remote is called http: the plain refgenieserver finds no file then")
    return sound, lines


def sound_aliases(wanted: Mapping[str, Sequence[object]]) -> tuple[dict[str, list[str]], list[str]]:
    """The aliases of each genome (by digest) that are texts and lead to no other genome, and lines about the others.

    Of two genomes the first keeps an alias. A genome without an alias of its own is called by its digest.
    """
    known = set(wanted)
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for digest, texts in wanted.items():
        aliases: dict[str, None] = {}
        for alias in map(str, filter(_is_scalar, texts)):
            if alias in aliases or alias == digest or not alias.isprintable() or not alias.strip():
                continue
            if alias in known:
                lines.append(f"genome {digest}: its alias {alias} belongs to another genome already")
            else:
                aliases[alias] = None
        known.update(aliases)
        if not aliases:
            lines.append(f"genome {digest}: it has no alias of its own, and is called by its digest")
        found[digest] = list(aliases) or [digest]
    return found, lines


# ----------------------------------------------------------------- genomes, groups, tags


def _genome(digest: str, given: object, old: _Genome | None) -> _Genome:
    if old is not None and old.given is given:
        return old
    body = mapping(given)
    there = old.groups if old else {}
    groups: dict[str, _Group] = {}
    found = _NOTHING
    for name, value in mapping(body.get("assets")).items():
        group = there.get(str(name))
        if group is None or group.given is not value:
            group = _group(f"{digest}/{name}", str(name), value)
        groups[str(name)] = group
        if group.told is not _NOTHING:
            found = found.and_(group.told)
    assets = {name: group.body for name, group in groups.items() if group.body["tags"]}
    sound: ConfigTree = {
        "aliases": sequence(body.get("aliases")),
        "genome_description": _text(body.get("genome_description", "")),
        "assets": _same(body.get("assets"), assets),
    }
    if not isinstance(body.get("genome_digest", ""), str):
        sound["genome_digest"] = digest
    return _Genome(given, groups, _with(sound, body), found)


def _group(path: str, name: str, given: object) -> _Group:
    body = mapping(given)
    given_tags = mapping(body.get("tags"))
    tags = {str(tag): sound_tag(name, mapping(value)) for tag, value in given_tags.items()}
    servable = {tag: value for tag, value in tags.items() if is_servable(value)}
    lines: tuple[str, ...] = ()
    wanted = default = str(body.get("default_tag", "default"))
    if servable:
        default = default_asset(wanted, servable)
        if default != wanted:
            lines = (not_served(path, wanted, default),)
    mended = sum(1 for tag, value in given_tags.items() if tags[str(tag)] is not value)
    found = _Told(lines, len(tags) - len(servable), mended)
    sound: ConfigTree = {
        "asset_description": _text(body.get("asset_description", "")),
        "default_tag": default,
        "tags": _same(given_tags, servable),
    }
    return _Group(given, _with(sound, body), _NOTHING if found == _NOTHING else found)


def sound_tag(group: str, body: ConfigTree) -> ConfigTree:
    """One asset's entry in this group, with all eight keys that the server needs; `body` itself when it is sound."""
    seek_keys = mapping(body.get("seek_keys"))
    sound: ConfigTree = {
        "asset_path": _text(body.get("asset_path", group)),
        "asset_digest": _text(body.get("asset_digest", "")),
        "archive_digest": _text(body.get("archive_digest", "")),
        "asset_size": _text(body.get("asset_size", "")),
        "archive_size": _text(body.get("archive_size", "")),
        "seek_keys": {str(key): str(path) for key, path in seek_keys.items() if _is_scalar(path)},
        "asset_parents": _relatives(body.get("asset_parents")),
        "asset_children": _relatives(body.get("asset_children")),
    }
    return body if _has(body, sound) else body | sound


def is_servable(tag: ConfigTree) -> bool:
    """Whether a sound entry has the digest and the size of its archive."""
    return bool(tag["archive_digest"] and tag["archive_size"])


def default_asset(wanted: str, servable: Collection[str]) -> str:
    """The default asset of a group with these assets: the first one stands in for an asset that cannot be served."""
    return wanted if wanted in servable else next(iter(servable))


def not_served(path: str, default: str, instead: str) -> str:
    """The line about the default asset of a group, which cannot be served."""
    return f"{path}: its default asset {default} is not served; {instead} stands in"


def _with(sound: ConfigTree, body: ConfigTree) -> ConfigTree:
    """The sound values and the other values of `body`; `body` itself when it has the sound values already."""
    return body if _has(body, sound) else sound | {name: value for name, value in body.items() if name not in sound}


def _has(body: ConfigTree, sound: ConfigTree) -> bool:
    return all(name in body and (body[name] is value or body[name] == value) for name, value in sound.items())


def _same(given: object, made: ConfigTree) -> ConfigTree:
    """`given` when it has the very same values under the same names, else `made`."""
    there = mapping(given)
    same = len(there) == len(made) and all(there.get(name) is value for name, value in made.items())
    return there if same else made


def _text(value: object) -> str:
    return str(value) if _is_scalar(value) else ""


def _relatives(value: object) -> list[str]:
    return [path for path in sequence(value) if isinstance(path, str) and _RELATIVE.fullmatch(path)]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def mapping(value: object) -> ConfigTree:
    return cast("ConfigTree", value) if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
