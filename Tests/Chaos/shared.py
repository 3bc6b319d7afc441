"""Makes the modules of Tests/EndToEnd importable (import it before them), and how these programs end."""

import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True
_folder = str(Path(__file__).resolve().parents[1] / "EndToEnd")
if _folder not in sys.path:
    sys.path.append(_folder)


def leave(code):
    """Ends the process although a connection's poller may still run."""
    import etcd_client
    etcd_client._folder.cleanup()
    sys.stdout.flush()
    os._exit(code)
