"""Registry paths, `genome/asset_group:asset`, as people write them: parsed, resolved, matched."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from refgenied.genomes.enclosure import shown
from refgenied.model import AssetKey, AssetNotFoundError, BadRegistryPathError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from refgenied.model import Asset, Look

_FORM = "write genome/asset_group:asset, such as hg38/fasta:default"
_SHOWN = 8  # names in a hint
_COMPARED = 2000  # names that a hint is looked for in: each takes microseconds
_LONGEST = 200  # bytes of one name: each becomes part of file names


class RegistryPath(NamedTuple):
    """A registry path in its parts; nothing is known yet about whether they exist."""

    genome: str
    """A digest or an alias."""
    asset_group: str
    asset: str | None
    """None: the group's default asset is meant."""


def is_name(text: str) -> bool:
    """Whether a text can be the name of a genome, group or asset, and safely of a folder.

    Without blanks around it: in a registry path nobody could tell whether they belong to the name.
    """
    return (
        text.isprintable()
        and text == text.strip()
        and text not in {"", ".", ".."}
        and not any(c in text for c in "/:")
        and len(text.encode("utf-8", "surrogatepass")) <= _LONGEST
    )


def parse(text: str) -> RegistryPath:
    """BadRegistryPathError when it isn't one."""
    genome, slash, rest = text.strip().partition("/")
    group, colon, asset = rest.partition(":")
    names = [genome, group, *([asset] if colon else [])]
    if not slash or not all(is_name(name) for name in names):
        raise BadRegistryPathError(f"'{shown(text)}' is not a registry path", hint=_FORM)
    return RegistryPath(genome, group, asset if colon else None)


def resolve(look: Look, text: str) -> AssetKey:
    """The asset that a person means: alias → digest, default asset when none is named.

    BadRegistryPathError when the text isn't a registry path, AssetNotFoundError when there is no such asset;
    the hint lists the nearest names.
    """
    path = parse(text)
    digest = _genome(look, path)
    groups = {key.asset_group for key in look.assets if key.genome_digest == digest}
    if path.asset_group not in groups:
        raise _no_group(path, groups)
    assets = {key.asset for key in look.assets if key.genome_digest == digest and key.asset_group == path.asset_group}
    asset = path.asset or _default(look, digest, path, assets)
    if asset not in assets:
        raise AssetNotFoundError(
            f"{path.genome}/{path.asset_group} has no asset '{asset}'",
            hint=_known("assets of this group", asset, assets),
        )
    return AssetKey(digest, path.asset_group, asset)


def check_pattern(pattern: str) -> None:
    """BadRegistryPathError when a pattern of the configuration cannot match anything."""
    genome, slash, rest = pattern.partition("/")
    group, colon, asset = rest.partition(":")
    parts = [genome, group, *([asset] if colon else [])]
    if not slash or not all(is_name(part) and part == part.strip() for part in parts):
        raise BadRegistryPathError(
            f"'{shown(pattern)}' is not a pattern for registry paths",
            hint="write genome/asset_group:asset with * for anything, such as hg38/* or */fasta:default",
        )


def matches(pattern: str, asset: Asset) -> bool:
    """Whether a pattern covers an asset. Its genome is a digest or an alias; without `:asset` any asset."""
    genome, _, rest = pattern.partition("/")
    group, colon, name = rest.partition(":")
    key = asset.key
    return (
        any(fnmatchcase(known, genome) for known in (key.genome_digest, *asset.aliases))
        and fnmatchcase(key.asset_group, group)
        and (not colon or fnmatchcase(key.asset, name))
    )


def _genome(look: Look, path: RegistryPath) -> str:
    if path.genome in look.genomes:
        return path.genome
    found = [genome.digest for genome in look.genomes.values() if path.genome in genome.aliases]
    if len(found) > 1:
        raise BadRegistryPathError(
            f"the alias '{path.genome}' belongs to {len(found)} genomes",
            hint=f"write the digest of the one you mean: {', '.join(sorted(found))}",
        )
    if not found:
        names = [name for genome in look.genomes.values() for name in (genome.aliases or (genome.digest,))]
        raise AssetNotFoundError(
            f"there is no genome '{path.genome}'", hint=_known("known genomes", path.genome, names)
        )
    return found[0]


def _no_group(path: RegistryPath, groups: set[str]) -> BadRegistryPathError | AssetNotFoundError:
    group, dot, seek_key = path.asset_group.partition(".")
    if dot and group in groups:
        return BadRegistryPathError(
            f"'{path.genome}/{path.asset_group}' names the seek key '{seek_key}', not an asset",
            hint=f"write {path.genome}/{group}" + (f":{path.asset}" if path.asset else ""),
        )
    return AssetNotFoundError(
        f"the genome '{path.genome}' has no asset group '{path.asset_group}'",
        hint=_known("its asset groups", path.asset_group, groups),
    )


def _default(look: Look, digest: str, path: RegistryPath, assets: set[str]) -> str:
    default = look.genomes[digest].default_assets.get(path.asset_group)
    if default is not None:
        return default
    if len(assets) == 1 or "default" in assets:
        return "default" if "default" in assets else next(iter(assets))
    raise AssetNotFoundError(
        f"{path.genome}/{path.asset_group} has no default asset",
        hint=_known("name one of its assets", "", assets),
    )


def _known(title: str, wanted: str, names: Iterable[str]) -> str:
    """The nearest names first, then the others; not too many."""
    every = sorted(set(names))
    near = get_close_matches(wanted, every[:_COMPARED], n=_SHOWN, cutoff=0.5)
    ordered = [*near, *(name for name in every if name not in near)]
    if not ordered:
        return f"{title}: none yet"
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return f"{title}: {', '.join(ordered[:_SHOWN])}{more}"
