"""Puts the units in place and takes them away again. Whatever is done twice is done once."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from refgenied.config import SYSTEM_SOCKET, Settings, clashes
from refgenied.files.durable import keep_beside, save_atomically
from refgenied.files.regular import read_regular
from refgenied.model import ConfigError, WriteError
from refgenied.systemd import accounts
from refgenied.systemd.units import NOT_OURS, SERVING_STATE, SYSTEM_STATE, serving_state, system_units, user_units

UNITS = ("refgenied.service", "refgenied.socket", "refgenied-serve.service")
USER_UNITS = ("refgenied.service",)
OURS = b"# Written by `refgenied install-units"
"""How each of these files begins."""
SYSUSERS = "etc/sysusers.d/refgenied.conf"
TMPFILES = "etc/tmpfiles.d/refgenied.conf"


class Installation:
    """The units of one configuration, below `root`: `/` (or a home folder, for a `user`'s own systemd).

    Below another root (an image, a package) only files are written: no accounts, no owners, nothing is told to
    systemd. `say` gets one line for each step; with `dry_run` nothing else happens.
    """

    def __init__(
        self, settings: Settings, root: Path, *, user: bool, live: bool, dry_run: bool, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._root = root
        self._user = user
        self._live = live
        self._dry_run = dry_run
        self._say = say

    # ----------------------------------------------------------------- there

    def install(self) -> None:
        """Write the units, make the accounts, give them the archive folder. ConfigError, WriteError."""
        self._check()
        texts = user_units(self._settings) if self._user else system_units(self._settings)
        if not self._user:
            texts[SYSUSERS] = self._with_made_accounts(texts[SYSUSERS])
        changed = [self._write(path, text) for path, text in texts.items()]
        if not self._live:
            return
        if not self._user:
            self._run("systemd-sysusers", str(self._root / SYSUSERS))
            self._run("systemd-tmpfiles", "--create", str(self._root / TMPFILES))
            self._give_folders()
        if any(changed):
            self._systemctl("daemon-reload")

    def _check(self) -> None:
        refgenie = self._settings.refgenie
        if not self._settings.path:
            raise ConfigError("there is no configuration for the units", hint="`refgenied init` writes one")
        if self._settings.origins.get("refgenie.genome_folder", "").startswith("refgenie's"):
            raise ConfigError(
                f"refgenie.genome_folder must stand in {self._settings.path} for a service: with its disk not mounted, "
                f"{refgenie.genome_config} cannot be asked",
                hint=f'genome_folder = "{refgenie.genome_folder}"',
            )
        for message in clashes(self._settings, service=True):
            raise ConfigError(message)
        if not self._user:
            self._check_given()

    def _check_given(self) -> None:
        """What is given to the daemon's user must be a folder of its own, also when a link leads to it."""
        for folder, _, _ in self._given():
            if {str(folder), str(folder.resolve())} & set(NOT_OURS):
                raise ConfigError(
                    f"{folder} would be given to the user {accounts.USER}: it belongs to the system",
                    hint=f"name a folder of its own in {self._settings.path}, such as {folder / 'refgenied'}",
                )

    def _with_made_accounts(self, text: str) -> str:
        installed = self._root / SYSUSERS
        made = accounts.made_before(installed.read_text(encoding="utf-8")) if installed.is_file() else []
        if self._live:
            made += accounts.missing(self._settings.control.group)
            made += [f"folder {folder}" for folder in self._missing_folders()]
        return accounts.noted(text, made)

    def _missing_folders(self) -> list[Path]:
        return [folder for name in (SYSUSERS, TMPFILES) if not (folder := (self._root / name).parent).is_dir()]

    def _write(self, name: str, text: str) -> bool:
        path = self._root / name
        try:
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                self._say(f"unchanged {path}")
                return False
            if os.path.lexists(path) and not self._is_ours(path):
                self._say(f"keep {path}, which is not ours, as {path.name}.before-refgenied")
                if not self._dry_run:
                    keep_beside(path, "before-refgenied")
            self._say(f"write {path}")
            if self._dry_run:
                self._say("".join(f"    {line}\n" for line in text.splitlines()))
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            save_atomically(path, text.encode())
            path.chmod(0o644)
        except OSError as error:
            raise WriteError(f"{error.filename or path}: {error.strerror}", hint=self._who()) from None
        return True

    @staticmethod
    def _is_ours(path: Path) -> bool:
        """Whether `install-units` wrote this file. OSError."""
        try:
            return read_regular(path).startswith(OURS)
        except OSError:
            if path.is_symlink():  # a unit that was masked leads to /dev/null
                return False
            raise

    def _who(self) -> str:
        return "" if self._user or os.geteuid() == 0 else "run it as root, or with --user for yourself alone"

    def _given(self) -> list[tuple[Path, str, str]]:
        """Folders, each with the user and the group that get it."""
        refgenie, group = self._settings.refgenie, self._settings.control.group
        serving = serving_state(self._settings)
        given = [(refgenie.genome_archive_folder, accounts.USER, group)]
        if self._settings.state.folder != SYSTEM_STATE:
            given.append((self._settings.state.folder, accounts.USER, group))
        if serving != SERVING_STATE:
            given.append((serving, accounts.SERVING_USER, accounts.SERVING_USER))
        return [(Path(name), user, its_group) for name, user, its_group in given if name]

    def _give_folders(self) -> None:
        for folder, user, group in self._given():
            self._give(folder, user, group)

    def _give(self, folder: Path, user: str, group: str) -> None:
        self._say(f"give {folder} to {user}:{group}")
        if self._dry_run:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            genomes = Path(self._settings.refgenie.genome_folder)
            accounts.give(folder.resolve(), user, group, leave=genomes.resolve())  # the folder, not a link to it
        except OSError as error:
            raise WriteError(f"{error.filename or folder}: {error.strerror}") from None

    # ----------------------------------------------------------------- and back again

    def uninstall(self) -> None:
        """Stop and disable the units, remove them and the accounts made for them; the data go to root. WriteError."""
        units = USER_UNITS if self._user else UNITS
        home = ".config/systemd/user" if self._user else "etc/systemd/system"
        present = [unit for unit in units if (self._root / home / unit).is_file()]
        if self._live and present:
            self._systemctl("disable", "--now", *present)
        made = self._made()
        for unit in units:
            self._remove(f"{home}/{unit}")
            if (self._root / home / f"{unit}.d").is_dir():
                self._say(f"leave {self._root / home / unit}.d: it is yours")
        if not self._user:
            self._remove(SYSUSERS)
            self._remove(TMPFILES)
        if self._live and present:
            self._systemctl("daemon-reload")
            with suppress(WriteError):  # none of them has failed
                self._systemctl("reset-failed", *present)
        if self._live and not self._user:
            self._clear_away(made)
        if self._user and not self._dry_run:
            with suppress(OSError):
                (self._root / home).rmdir()

    def _made(self) -> list[str]:
        installed = self._root / SYSUSERS
        return accounts.made_before(installed.read_text(encoding="utf-8")) if installed.is_file() else []

    def _remove(self, name: str) -> None:
        path = self._root / name
        if not path.is_file():
            return
        if not self._is_ours(path):
            self._say(f"leave {path}: it is not ours")
            return
        self._say(f"remove {path}")
        if self._dry_run:
            return
        try:
            path.unlink()
        except OSError as error:
            raise WriteError(f"{path}: {error.strerror}", hint=self._who()) from None

    def _clear_away(self, made: list[str]) -> None:
        """The socket's folder, the accounts, and what they own."""
        socket = Path(self._settings.control.socket or SYSTEM_SOCKET)
        self._say(f"remove {socket.parent}")
        if not self._dry_run:
            with suppress(OSError):
                socket.unlink(missing_ok=True)
                socket.parent.rmdir()
            with suppress(OSError):
                Path(SERVING_STATE).rmdir()  # it holds nothing that was not reported
        state = self._settings.state.folder or SYSTEM_STATE
        for name in (self._settings.refgenie.genome_archive_folder, state, serving_state(self._settings)):
            self._give_to_root(name, made)
        for thing in made:
            self._say(f"remove the {thing}")
        if not self._dry_run:
            self._say_all(accounts.take_away([thing for thing in made if not thing.startswith("folder ")]))
            for folder in (thing.removeprefix("folder ") for thing in made if thing.startswith("folder ")):
                with suppress(OSError):  # something else is in it by now
                    Path(folder).rmdir()

    def _say_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def _give_to_root(self, name: str, made: list[str]) -> None:
        for user in (accounts.USER, accounts.SERVING_USER):
            if f"user {user}" in made and name and Path(name).is_dir():
                try:
                    uid = pwd.getpwnam(user).pw_uid
                    if not self._dry_run and accounts.hand_over(Path(name).resolve(), uid):
                        self._say(f"the data in {name} belong to root now")
                except KeyError:
                    continue
                except OSError as error:  # a network disk may know no root
                    self._say(f"leave the data in {name} to {user}: {error.strerror}")

    # ----------------------------------------------------------------- systemd

    def _systemctl(self, *arguments: str) -> None:
        if Path("/run/systemd/system").is_dir():
            self._run("systemctl", *(["--user"] if self._user else []), *arguments)

    def _run(self, *command: str) -> None:
        self._say(f"run {' '.join(command)}")
        if self._dry_run:
            return
        _call(command)


def _call(command: Sequence[str]) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise WriteError(f"{command[0]} is not there: this machine does not run systemd")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise WriteError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
