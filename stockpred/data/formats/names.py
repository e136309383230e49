"""The names of files that hold one asset's bars."""

from __future__ import annotations

from urllib.parse import quote

PLAIN_IN_NAMES = " ^=+@,()[]&$!'"  # as they are in a file's name; a slash becomes %2F


def file_name(symbol: str, ending: str) -> str:
    """Return a name that is valid on any file system; the file itself holds the symbol unchanged."""
    name = quote(symbol, safe=PLAIN_IN_NAMES)
    return f"{'%2E' + name[1:] if name.startswith('.') else name}{ending}"
