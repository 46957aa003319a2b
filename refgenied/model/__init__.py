"""The words of the project as frozen types, the table of job states and the errors. No I/O, no clock.

Every room may import this one. It imports no other room.
"""

from refgenied.model.access import Access as Access
from refgenied.model.archives import ArchiveRecord as ArchiveRecord
from refgenied.model.archives import Removal as Removal
from refgenied.model.assets import ARCHIVABLE as ARCHIVABLE
from refgenied.model.assets import Asset as Asset
from refgenied.model.assets import AssetKey as AssetKey
from refgenied.model.assets import AssetState as AssetState
from refgenied.model.assets import BuildRecord as BuildRecord
from refgenied.model.assets import Genome as Genome
from refgenied.model.assets import Look as Look
from refgenied.model.assets import Problem as Problem
from refgenied.model.downloads import DownloadReport as DownloadReport
from refgenied.model.errors import AlreadyRunningError as AlreadyRunningError
from refgenied.model.errors import ArchiveFolderNotSetError as ArchiveFolderNotSetError
from refgenied.model.errors import ArchiveNotFoundError as ArchiveNotFoundError
from refgenied.model.errors import AssetIncompleteError as AssetIncompleteError
from refgenied.model.errors import AssetNotFoundError as AssetNotFoundError
from refgenied.model.errors import AssetNotWantedError as AssetNotWantedError
from refgenied.model.errors import BadArgumentError as BadArgumentError
from refgenied.model.errors import BadRegistryPathError as BadRegistryPathError
from refgenied.model.errors import BusyError as BusyError
from refgenied.model.errors import ConfigError as ConfigError
from refgenied.model.errors import ConflictError as ConflictError
from refgenied.model.errors import CrashedError as CrashedError
from refgenied.model.errors import DamagedArchiveError as DamagedArchiveError
from refgenied.model.errors import DigestMismatchError as DigestMismatchError
from refgenied.model.errors import JobNotFoundError as JobNotFoundError
from refgenied.model.errors import MemberNotFoundError as MemberNotFoundError
from refgenied.model.errors import NoSpaceError as NoSpaceError
from refgenied.model.errors import PermissionDeniedError as PermissionDeniedError
from refgenied.model.errors import RefgeniedError as RefgeniedError
from refgenied.model.errors import ShortageError as ShortageError
from refgenied.model.errors import ShuttingDownError as ShuttingDownError
from refgenied.model.errors import SourceChangedError as SourceChangedError
from refgenied.model.errors import StateError as StateError
from refgenied.model.errors import UnreadableError as UnreadableError
from refgenied.model.errors import UnsafeTreeError as UnsafeTreeError
from refgenied.model.errors import WriteError as WriteError
from refgenied.model.jobs import ARROWS as ARROWS
from refgenied.model.jobs import ENDED as ENDED
from refgenied.model.jobs import Arrow as Arrow
from refgenied.model.jobs import Event as Event
from refgenied.model.jobs import Job as Job
from refgenied.model.jobs import JobState as JobState
from refgenied.model.jobs import Outcome as Outcome
from refgenied.model.jobs import Priority as Priority
from refgenied.model.jobs import Requester as Requester
from refgenied.model.structs import prepare_structs as prepare_structs
