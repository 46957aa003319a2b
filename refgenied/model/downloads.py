"""The report of one download."""

from typing import Annotated

import msgspec
from msgspec import Meta

from refgenied.model.assets import AssetKey

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class DownloadReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One archive that a client has got completely."""

    id: Annotated[str, Meta(min_length=8, max_length=64, description="the same id again is the same download")]
    genome_digest: Name
    asset_group: Name
    asset: Name
    at: Annotated[float, Meta(ge=0, description="when it was complete, Unix seconds")]
    digest: Annotated[str, Meta(max_length=64, description="md5 of the archive, if it is known")] = ""

    @property
    def key(self) -> AssetKey:
        return AssetKey(self.genome_digest, self.asset_group, self.asset)
