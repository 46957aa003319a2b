"""Registry paths, `genome/asset_group:asset`, as people write them: parsed, resolved to assets, matched by patterns."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from refgenied.genomes.enclosure import shown
from refgenied.model import Asset, AssetKey, AssetNotFoundError, BadRegistryPathError, Look

_FORM = "write genome/asset_group:asset, such as hg38/fasta:default"
_MAX_SHOWN = 8
"""The most names in a hint."""
_MAX_COMPARED = 2000
"""The most names that are compared for a hint, because each takes microseconds."""
_MAX_NAME_BYTES = 200
"""The most bytes of one name, because names become parts of file names."""


class RegistryPath(NamedTuple):
    """The parts of a registry path; they need not exist."""

    genome: str
    """A digest or an alias."""
    asset_group: str
    asset: str | None
    """The asset's name; None means the group's default asset."""


@lru_cache(maxsize=4096)
def is_name(text: str) -> bool:
    """Whether a text can be the name of a genome, group or asset, and is safe as the name of a folder.

    It has no blanks at its ends, because in a registry path nobody could see whether they belong to the name.
    """
    return (
        text.isprintable()
        and text == text.strip()
        and text not in {"", ".", ".."}
        and not any(c in text for c in "/:")
        and len(text.encode("utf-8", "surrogatepass")) <= _MAX_NAME_BYTES
    )


def parse(text: str) -> RegistryPath:
    """Split a registry path. BadRegistryPathError when the text is not one."""
    path = _split(text.strip())
    if not _is_sound(path):
        raise BadRegistryPathError(f"'{shown(text)}' is not a registry path", hint=_FORM)
    return path


def _split(text: str) -> RegistryPath:
    genome, _, rest = text.partition("/")
    group, colon, asset = rest.partition(":")
    return RegistryPath(genome, group, asset if colon else None)


def _is_sound(path: RegistryPath) -> bool:
    return all(name is None or is_name(name) for name in path)


def resolve(look: Look, text: str) -> AssetKey:
    """The asset of a registry path: an alias becomes its digest, and without an asset the group's default is taken.

    BadRegistryPathError: the text is not a registry path. AssetNotFoundError: there is no such asset; the hint lists
    the nearest names.
    """
    path = parse(text)
    digest = _genome(look, path)
    named = path.asset or look.genomes[digest].default_assets.get(path.asset_group, "")
    key = AssetKey(digest, path.asset_group, named)
    if key in look.assets:  # without reading all keys, which only an error or a group without a default needs
        return key
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
    """BadRegistryPathError: a pattern of the configuration can never match."""
    if not _is_sound(_split(pattern)):
        raise BadRegistryPathError(
            f"'{shown(pattern)}' is not a pattern for registry paths",
            hint="write genome/asset_group:asset with * for anything, such as hg38/* or */fasta:default",
        )


def matches(pattern: str, asset: Asset) -> bool:
    """Whether a pattern matches an asset. Its genome is a digest or an alias; without `:asset` it matches any asset."""
    genome, group, name = _split(pattern)
    key = asset.key
    return (
        any(fnmatchcase(known, genome) for known in (key.genome_digest, *asset.aliases))
        and fnmatchcase(key.asset_group, group)
        and (name is None or fnmatchcase(key.asset, name))
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
    default = look.genomes[digest].default_assets.get(path.asset_group) or default_of(assets)
    if not default:
        raise AssetNotFoundError(
            f"{path.genome}/{path.asset_group} has no default asset",
            hint=_known("name one of its assets", "", assets),
        )
    return default


def default_of(assets: Collection[str]) -> str:
    """The default asset of a group without a configured default: `default`, or the only asset; "" if neither exists."""
    if "default" in assets:
        return "default"
    return next(iter(assets)) if len(assets) == 1 else ""


def _known(title: str, wanted: str, names: Iterable[str]) -> str:
    """A hint with some of the names, the nearest first."""
    every = sorted(set(names))
    near = get_close_matches(wanted, every[:_MAX_COMPARED], n=_MAX_SHOWN, cutoff=0.5)
    ordered = [*near, *(name for name in every if name not in near)]
    if not ordered:
        return f"{title}: none yet"
    more = f" and {len(ordered) - _MAX_SHOWN} more" if len(ordered) > _MAX_SHOWN else ""
    return f"{title}: {', '.join(ordered[:_MAX_SHOWN])}{more}"
