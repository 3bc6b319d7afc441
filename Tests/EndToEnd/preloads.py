"""The small C libraries of faults/, compiled on the spot, and where Debian keeps libfaketime."""

import glob
from pathlib import Path

from harness import run

FAULTS = Path(__file__).resolve().parent / "faults"


def compiled(space, name):
    """Path of the shared library made from faults/NAME.c."""
    library = space / f"{name}.so"
    if not library.exists():
        result = run("cc", "-O2", "-shared", "-fPIC", "-o", library, FAULTS / f"{name}.c", "-ldl", "-lpthread")
        if result.returncode != 0:
            raise AssertionError(f"cc {name}.c: {result.stderr}")
    return library


def faketime_library():
    """libfaketime for programs with threads; None when it is not installed."""
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    return found[0] if found else None
