"""A daemon is as large as what it holds."""

import subprocess
import sys

CODE = """\
import sys
from refgenied.shared import memory
memory.give_back_early()
with memory.without("rich"):
    import structlog
assert not [name for name in sys.modules if name.partition(".")[0] in ("rich", "pygments")]
with memory.without("structlog"):
    import structlog
import rich.console, structlog
print(structlog.dev.ConsoleRenderer(colors=False)(None, "info", {"event": "it works"}))
"""


def test_structlog_leaves_out_what_our_logs_do_not_use_and_nobody_else_misses_it():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it works" in done.stdout
