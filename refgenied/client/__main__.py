"""`python -m refgenied.client` is `refgeniectl`."""

import sys

from refgenied.client import main

sys.exit(main())
