"""`config.get`: the configuration in force."""

from typing import Annotated

from msgspec import Meta

from refgenied.config.write import effective
from refgenied.control.context import Context
from refgenied.control.dispatch import Call, Verb
from refgenied.control.params import Nothing
from refgenied.control.views import Page, View, text


class RefgenieConfig(View, frozen=True):
    """The values that refgenie 1's `config get` prints."""

    genome_folder: str
    version: str
    genome_archive_folder: str
    servers: tuple[str, ...]


class Setting(View, frozen=True):
    name: str
    value: str | float | bool | tuple[str, ...] | dict[str, str]
    origin: str


class Configuration(View, frozen=True):
    path: Annotated[str, Meta(description="the configuration file; empty when there is none")]
    refgenie: RefgenieConfig
    settings: list[Setting]


@Verb("config.get")
async def config_get(context: Context, call: Call, params: Nothing) -> Configuration:
    """refgenie's own settings, and every setting in force with its source."""
    settings = context.current.settings
    look = context.reconciler.look
    return Configuration(
        path=settings.path,
        refgenie=RefgenieConfig(
            genome_folder=settings.refgenie.genome_folder,
            version=text(look.config_version),
            genome_archive_folder=settings.refgenie.genome_archive_folder,
            servers=tuple(Page(look.servers or settings.servers, room=50_000).rows),
        ),
        settings=[Setting(name, value, origin) for name, value, origin in effective(settings)],
    )
