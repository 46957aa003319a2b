"""Reads the configuration again, by a signal or by a verb, and tells systemd."""

from collections.abc import Callable

import anyio.to_thread
import structlog

from refgenied import logs
from refgenied.config.settings import FOLDERS, Current, Settings, changed_fixed, keeping_fixed
from refgenied.model import ConfigError
from refgenied.systemd.notify import notify, reloading, unit

log = structlog.get_logger("daemon")


class Reload:
    def __init__(self, current: Current, load: Callable[[], Settings], names: Callable[[str], list[str]]) -> None:
        """`names`: as for `logs.set_up`."""
        self._current = current
        self._load = load
        self._names = names
        self._after: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """Register a function that is called after each reload."""
        self._after.append(call)

    async def run(self) -> list[str]:
        """Reload. Returns the settings that differ and need a restart. ConfigError: the old settings stay."""
        reloading()
        try:
            return await self._run()
        finally:
            notify("READY=1")

    async def run_and_log(self) -> None:
        """Reload, and log an error in the file. The daemon goes on with the old settings then."""
        try:
            await self.run()
        except ConfigError as error:
            log.warning("config.refused", error=error.message, hint=error.hint)
        except Exception:
            log.exception("config.refused")

    async def _run(self) -> list[str]:
        new = await anyio.to_thread.run_sync(self._load)
        fixed = changed_fixed(self._current.settings, new)
        outside = [name for name in fixed if name in FOLDERS]
        if outside and unit():
            raise ConfigError(
                f"{', '.join(outside)} changed, and the sandbox of {unit()} is fixed at start: nothing was reloaded",
                hint=f"run `refgenied install-units` and `systemctl restart {unit()}`",
            )
        if fixed:
            log.warning("config.needs_restart", settings=fixed)
        self._current.settings = keeping_fixed(self._current.settings, new)
        logs.set_up(self._current.settings.log, self._names)
        log.info("config.reloaded", config=new.path)
        for call in self._after:
            call()
        return fixed
