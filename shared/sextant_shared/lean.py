"""Importing this first keeps out of a service what its libraries load where it is installed, and it never uses.

structlog loads rich, for colours; nats loads aiohttp, for websockets: 11 MB in each idle process.
"""

import sys
from importlib import import_module

SPARED = {"structlog": "rich", "nats": "aiohttp"}

for library, extra in SPARED.items():
    known = sys.modules.get(extra)
    sys.modules[extra] = None  # type: ignore[assignment] # as the import system says that there is none
    import_module(library)
    # From now on whoever needs it can have it.
    del sys.modules[extra]
    if known is not None:
        sys.modules[extra] = known
