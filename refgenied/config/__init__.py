"""The settings: what they are (`settings`), how they are read (`load`, `toml`) and written (`write`, `creation`), where
things are by default (`places`), which places must not be the same (`roles`), which can be used (`checking`), and the
commands about them (`commands`).
"""

from refgenied.config.checking import check_folders as check_folders
from refgenied.config.creation import init as init
from refgenied.config.load import examine as examine
from refgenied.config.load import load as load
from refgenied.config.places import LONGEST_SOCKET as LONGEST_SOCKET
from refgenied.config.places import user_config as user_config
from refgenied.config.roles import DATABASE as DATABASE
from refgenied.config.roles import LOCK as LOCK
from refgenied.config.roles import MARKER as MARKER
from refgenied.config.roles import clashes as clashes
from refgenied.config.settings import FOLDERS as FOLDERS
from refgenied.config.settings import Archive as Archive
from refgenied.config.settings import Control as Control
from refgenied.config.settings import Current as Current
from refgenied.config.settings import Log as Log
from refgenied.config.settings import Serving as Serving
from refgenied.config.settings import Settings as Settings
from refgenied.config.settings import changed_fixed as changed_fixed
from refgenied.config.settings import keeping_fixed as keeping_fixed
from refgenied.config.write import effective as effective
from refgenied.config.write import render as render
