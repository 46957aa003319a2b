"""Makes a config that refgenieserver 0.8.0 can use. One odd value of one entry breaks its answers about all entries.

One genome without an alias makes its list of all assets fail (500). One description that is a number makes its front
page fail. Such values are repaired or left out, and `lines` names them.
"""

import re
from collections import Counter
from typing import Any, cast

from refgenied.catalog.faults import first_lines

ConfigTree = dict[str, Any]

_RELATIVE = re.compile(r"(?:[^/:\s]+/)?[^/:\s]+(?::[^/:\s]+)?")
"""A parent or child that its pages can show."""


class Sound:
    """`tree` is a new config; the given config is not changed. `lines`: which values were repaired or left out."""

    def __init__(self, config: ConfigTree) -> None:
        self._lines: list[str] = []
        self._filled: Counter[str] = Counter()
        self._known: set[str] = set()
        """Digests and aliases that are in use."""
        self.tree = dict(config)
        servers: Any = self.tree.pop("genome_servers", None)
        if isinstance(servers, list):
            servers = [url for url in cast("list[object]", servers) if isinstance(url, str)]
        if isinstance(servers, str | list):
            self.tree["genome_servers"] = servers
        remotes = self._remotes(self.tree.pop("remotes", None))
        if remotes:  # with an empty mapping refgenieserver finds no file at all
            self.tree["remotes"] = remotes
        genomes = mapping(config.get("genomes"))
        whole = {str(digest): self._genome(str(digest), mapping(body)) for digest, body in genomes.items()}
        whole = {digest: body for digest, body in whole.items() if body["assets"]}
        self._known.update(whole)
        for digest, body in whole.items():
            body["aliases"] = self._aliases(digest, body["aliases"])
        self.tree["genomes"] = whole

    @property
    def lines(self) -> tuple[str, ...]:
        filled = [f"{what} ({number})" for what, number in sorted(self._filled.items())]
        return (*first_lines(self._lines, "more such lines"), *filled)

    # ----------------------------------------------------------------- parts

    def _genome(self, digest: str, body: ConfigTree) -> ConfigTree:
        assets = mapping(body.get("assets")).items()
        groups = {str(name): self._group(f"{digest}/{name}", str(name), mapping(group)) for name, group in assets}
        groups = {name: group for name, group in groups.items() if group["tags"]}
        sound = {
            "aliases": sequence(body.get("aliases")),
            "genome_description": self._text(body.get("genome_description", "")),
            "assets": groups,
        }
        others = {name: value for name, value in body.items() if name not in sound}
        if not isinstance(others.get("genome_digest", ""), str):
            others["genome_digest"] = digest
        return sound | others

    def _group(self, path: str, name: str, body: ConfigTree) -> ConfigTree:
        tags = {str(tag): self._tag(name, mapping(value)) for tag, value in mapping(body.get("tags")).items()}
        servable = {tag: value for tag, value in tags.items() if value["archive_digest"] and value["archive_size"]}
        if len(servable) < len(tags):
            what = "entries without the digest or size of their archives are left out"
            self._filled[what] += len(tags) - len(servable)
        default = str(body.get("default_tag", "default"))
        if servable and default not in servable:
            self._lines.append(f"{path}: its default asset {default} is not served; {next(iter(servable))} stands in")
            default = next(iter(servable))
        sound = {
            "asset_description": self._text(body.get("asset_description", "")),
            "default_tag": default,
            "tags": servable,
        }
        return sound | {key: value for key, value in body.items() if key not in sound}

    def _tag(self, group: str, body: ConfigTree) -> ConfigTree:
        seek_keys = mapping(body.get("seek_keys"))
        sound: ConfigTree = {
            "asset_path": self._text(body.get("asset_path", group)),
            "asset_digest": self._text(body.get("asset_digest", "")),
            "archive_digest": self._text(body.get("archive_digest", "")),
            "asset_size": self._text(body.get("asset_size", "")),
            "archive_size": self._text(body.get("archive_size", "")),
            "seek_keys": {str(key): str(path) for key, path in seek_keys.items() if _is_scalar(path)},
            "asset_parents": self._relatives(body.get("asset_parents")),
            "asset_children": self._relatives(body.get("asset_children")),
        }
        if any(key not in body or body[key] != value for key, value in sound.items()):
            self._filled["entries with values that refgenieserver cannot show are mended"] += 1
        return body | sound

    def _text(self, value: object) -> str:
        return str(value) if _is_scalar(value) else ""

    def _relatives(self, value: object) -> list[str]:
        return [path for path in sequence(value) if isinstance(path, str) and _RELATIVE.fullmatch(path)]

    def _aliases(self, digest: str, wanted: list[Any]) -> list[str]:
        """The aliases that are texts and lead to no other genome. A genome without an alias is called by its digest."""
        aliases: dict[str, None] = {}
        for alias in map(str, filter(_is_scalar, wanted)):
            if alias in aliases or alias == digest or not alias.isprintable() or not alias.strip():
                continue
            if alias in self._known:
                self._lines.append(f"genome {digest}: its alias {alias} belongs to another genome already")
            else:
                aliases[alias] = None
        self._known.update(aliases)
        if not aliases:
            self._lines.append(f"genome {digest}: it has no alias of its own, and is called by its digest")
        return list(aliases) or [digest]

    def _remotes(self, value: object) -> dict[str, dict[str, str]]:
        remotes = {str(name): mapping(remote) for name, remote in mapping(value).items()}
        sound = {
            name: {str(key): str(text) for key, text in remote.items() if _is_scalar(text)}
            for name, remote in remotes.items()
            if isinstance(remote.get("prefix"), str)
        }
        for name in sorted(remotes.keys() - sound.keys()):
            self._lines.append(f"the remote {name} has no prefix, and is left out")
        if sound and "http" not in sound:
            self._lines.append("no remote is called http: the plain refgenieserver finds no file then")
        return sound


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def mapping(value: object) -> ConfigTree:
    return cast("ConfigTree", value) if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
