"""The assets that a pattern of a list names. A list reads only the parts of all keys that can hold some of them."""

from refgenied.control.context import Context
from refgenied.genomes.registry_path import check_pattern, matches
from refgenied.model import Asset, AssetState
from refgenied.reconciler.key_order import EVERYTHING, Span
from refgenied.store import archives

_WILD = frozenset("*?[")


class Selection:
    """Called with an asset it tells whether the asset is selected."""

    def __init__(self, pattern: str, state: AssetState | None = None) -> None:
        """An empty pattern selects every asset, and so does no `state`. BadRegistryPathError."""
        self.pattern = pattern if not pattern or "/" in pattern else f"{pattern}/*"
        self._state = state
        check_pattern(self.pattern or "*/*")

    def __call__(self, asset: Asset) -> bool:
        return (self._state is None or asset.state is self._state) and (
            not self.pattern or matches(self.pattern, asset)
        )

    async def spans(self, context: Context) -> list[Span]:
        """The parts of all keys, in order, that hold all selected assets."""
        genome, _, rest = self.pattern.partition("/")
        if not genome or _WILD & set(genome):
            return [EVERYTHING]
        group, colon, asset = rest.partition(":")
        names = [] if _WILD & set(group) else [group] if not colon or _WILD & set(asset) else [group, asset]
        look = context.reconciler.look
        digests = {one.digest for one in look.genomes.values() if genome in one.aliases}
        digests.update((genome, *await context.store.ask(archives.genomes_called, genome)))
        return [Span.of(digest, *names) for digest in sorted(digests)]
