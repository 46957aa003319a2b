"""Installs and removes the units. A second call changes nothing more."""

import os
import pwd
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from refgenied.config.roles import clashes
from refgenied.config.settings import Settings
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.files.regular import read_regular
from refgenied.model import ConfigError, WriteError
from refgenied.shared.paths import SYSTEM_SOCKET
from refgenied.systemd import accounts
from refgenied.systemd.accounts import SERVICE_USERS, Users
from refgenied.systemd.tools import run
from refgenied.systemd.units import (
    NOT_OURS,
    SERVING_STATE,
    SYSTEM_FILES,
    SYSTEM_STATE,
    SYSUSERS,
    TMPFILES,
    USER_FILES,
    serving_state,
    system_units,
    user_units,
)

FIRST_WORDS = b"# Written by `refgenied install-units"
"""The first words of each of these files."""


@dataclass(kw_only=True)
class Installation:
    """The units of one configuration, below `root`: `/`, or a home folder for a `user`'s own systemd."""

    settings: Settings
    root: Path
    user: bool
    live: bool
    """False: the root is an image or a package. Then only files are written, and accounts, owners and systemd stay."""
    dry_run: bool
    """True: nothing is changed, and only `say` is called for each step."""
    say: Callable[[str], None]
    """A function that gets one line for each step."""
    users: Users = SERVICE_USERS

    # ----------------------------------------------------------------- installing

    def install(self) -> None:
        """Write the units, make the accounts, give them the archive folder. ConfigError, WriteError."""
        self._check()
        texts = user_units(self.settings) if self.user else system_units(self.settings)
        if not self.user:
            texts[SYSUSERS] = accounts.noted(texts[SYSUSERS], [*self._made(), *self._will_be_made()])
        changed = [self._write(self.root / name, text) for name, text in texts.items()]
        if not self.live:
            return
        if not self.user:
            self._run("systemd-sysusers", str(self.root / SYSUSERS))
            self._run("systemd-tmpfiles", "--create", str(self.root / TMPFILES))
            for folder, owner, group in self._given():
                self._give(folder, owner, group)
        if any(changed):
            self._systemctl("daemon-reload")

    def _check(self) -> None:
        refgenie = self.settings.refgenie
        if not self.settings.path:
            raise ConfigError("there is no configuration for the units", hint="`refgenied init` writes one")
        if self.settings.origins.get("refgenie.genome_folder", "").startswith("refgenie's"):
            raise ConfigError(
                f"refgenie.genome_folder must stand in {self.settings.path} for a service: with its disk not mounted, "
                f"{refgenie.genome_config} cannot be asked",
                hint=f'genome_folder = "{refgenie.genome_folder}"',
            )
        for message in clashes(self.settings, service=True):
            raise ConfigError(message)
        # A folder that the daemon's user gets must not belong to the system, even if a link leads to it.
        for folder, _, _ in [] if self.user else self._given():
            if {str(folder), str(folder.resolve())} & set(NOT_OURS):
                raise ConfigError(
                    f"{folder} would be given to the user {self.users.daemon}: it belongs to the system",
                    hint=f"name a folder of its own in {self.settings.path}, such as {folder / 'refgenied'}",
                )

    def _made(self) -> list[str]:
        """The accounts and folders that an installation has made here."""
        installed = self.root / SYSUSERS
        return accounts.made_before(installed.read_text(encoding="utf-8")) if installed.is_file() else []

    def _will_be_made(self) -> list[str]:
        """The accounts and folders that this installation will make."""
        if not self.live:
            return []
        folders = [(self.root / name).parent for name in (SYSUSERS, TMPFILES)]
        made = accounts.missing(self.users, self.settings.control.group)
        return made + [f"folder {folder}" for folder in folders if not folder.is_dir()]

    def _write(self, path: Path, text: str) -> bool:
        """Returns whether the file changes."""
        with self._as_write_error(path):
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                self.say(f"unchanged {path}")
                return False
            foreign = os.path.lexists(path) and not _is_ours(path)
            if foreign and self._begin(f"keep {path}, which is not ours, as {path.name}.before-refgenied"):
                keep_beside(path, "before-refgenied")
            if self._begin(f"write {path}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                save_atomically(path, text.encode())
                path.chmod(0o644)
            else:
                for line in text.splitlines():
                    self.say(f"    {line}")
        return True

    def _begin(self, step: str) -> bool:
        """Say the next step. Returns whether to do it."""
        self.say(step)
        return not self.dry_run

    @contextmanager
    def _as_write_error(self, path: Path) -> Generator[None]:
        try:
            yield
        except OSError as error:
            hint = "" if self.user or os.geteuid() == 0 else "run it as root, or with --user for yourself alone"
            raise WriteError(f"{error.filename or path}: {error.strerror}", hint=hint) from None

    def _given(self) -> list[tuple[Path, str, str]]:
        """Folders, each with the user and the group that will own it."""
        settings, (daemon, server) = self.settings, self.users
        state, serving = settings.state.folder, serving_state(settings)
        given = [
            (settings.refgenie.genome_archive_folder, daemon, settings.control.group),
            (state if state != SYSTEM_STATE else "", daemon, settings.control.group),
            (serving if serving != SERVING_STATE else "", server, server),
        ]
        return [(Path(name), user, group) for name, user, group in given if name]

    def _give(self, folder: Path, user: str, group: str) -> None:
        if not self._begin(f"give {folder} to {user}:{group}"):
            return
        with self._as_write_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
            genomes = Path(self.settings.refgenie.genome_folder)
            accounts.give(folder.resolve(), user, group, leave=genomes.resolve())  # the folder, not a link to it

    # ----------------------------------------------------------------- removing

    def uninstall(self) -> None:
        """Stop, disable and remove the units, and remove the accounts made for them. Root gets the data. WriteError."""
        files = [self.root / name for name in (USER_FILES if self.user else SYSTEM_FILES)]
        present = [path.name for path in files if path.suffix in (".service", ".socket") and path.is_file()]
        if self.live and present:
            self._systemctl("disable", "--now", *present)
        made = self._made()
        for path in files:
            self._remove(path)
            if path.with_name(f"{path.name}.d").is_dir():
                self.say(f"leave {path}.d: it is yours")
        if self.live and present:
            self._systemctl("daemon-reload")
            with suppress(WriteError):  # none of them has failed
                self._systemctl("reset-failed", *present)
        if self.live and not self.user:
            self._clear_away(made)
        if self.user and not self.dry_run:
            with suppress(OSError):
                files[0].parent.rmdir()

    def _remove(self, path: Path) -> None:
        if not path.is_file():
            return
        if not _is_ours(path):
            self.say(f"leave {path}: it is not ours")
            return
        if self._begin(f"remove {path}"):
            with self._as_write_error(path):
                path.unlink()

    def _clear_away(self, made: list[str]) -> None:
        """Remove the socket's folder and the accounts, and give the accounts' files to root."""
        socket = Path(self.settings.control.socket or SYSTEM_SOCKET)
        if self._begin(f"remove {socket.parent}"):
            with suppress(OSError):
                socket.unlink(missing_ok=True)
                socket.parent.rmdir()
            with suppress(OSError):
                Path(SERVING_STATE).rmdir()  # an empty folder: all its downloads were reported
        state = self.settings.state.folder or SYSTEM_STATE
        for name in (self.settings.refgenie.genome_archive_folder, state, serving_state(self.settings)):
            for user in (user for user in self.users if f"user {user}" in made and name and Path(name).is_dir()):
                self._give_to_root(name, user)
        for thing in made:
            self.say(f"remove the {thing}")
        if self.dry_run:
            return
        for line in accounts.take_away([thing for thing in made if not thing.startswith("folder ")]):
            self.say(line)
        for folder in (thing.removeprefix("folder ") for thing in made if thing.startswith("folder ")):
            with suppress(OSError):  # other files are in it by now
                Path(folder).rmdir()

    def _give_to_root(self, name: str, user: str) -> None:
        try:
            uid = pwd.getpwnam(user).pw_uid
            if not self.dry_run and accounts.hand_over(Path(name).resolve(), uid):
                self.say(f"the data in {name} belong to root now")
        except KeyError:  # the user is gone already
            return
        except OSError as error:  # a network disk may know no root
            self.say(f"leave the data in {name} to {user}: {error.strerror}")

    # ----------------------------------------------------------------- systemd

    def _systemctl(self, *arguments: str) -> None:
        if Path("/run/systemd/system").is_dir():
            self._run("systemctl", *(["--user"] if self.user else []), *arguments)

    def _run(self, *command: str) -> None:
        if self._begin(f"run {' '.join(command)}"):
            run(*command, missing=f"{command[0]} is not there: this machine does not run systemd")


def _is_ours(path: Path) -> bool:
    """Whether `install-units` wrote this file. OSError."""
    try:
        return read_regular(path).startswith(FIRST_WORDS)
    except OSError:
        if path.is_symlink():  # a masked unit is a link to /dev/null
            return False
        raise
