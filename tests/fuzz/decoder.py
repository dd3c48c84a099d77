"""Coverage-guided fuzzing of what reads the bytes of a peer: ``python -m tests.fuzz.decoder [libFuzzer options]``."""

from __future__ import annotations

import contextlib
import json
import json.decoder
import json.scanner
import os
import sys
from itertools import count

import atheris
import django

with atheris.instrument_imports(include=["z4j_core", "brain"]):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "z4j_project.settings")
    django.setup()
    from tests.fuzz import targets

#: One input in so many is stretched to this length, in bytes.
STRETCH_EVERY, STRETCHED = 256, 256 * 1024

_numbers = count()


class _Guide(json.JSONDecoder):
    """The standard library's reader in Python: the one in C shows the fuzzer nothing of where it got."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_object = atheris.instrument_func(json.decoder.JSONObject)
        self.parse_array = atheris.instrument_func(json.decoder.JSONArray)
        self.parse_string = atheris.instrument_func(json.decoder.py_scanstring)
        self.scan_once = atheris.instrument_func(json.scanner.py_make_scanner)(self)


_guide = _Guide()


def one(data: bytes) -> None:
    """Check one input."""
    with contextlib.suppress(ValueError, RecursionError):
        _guide.decode(data.decode())
    targets.check(data)
    if next(_numbers) % STRETCH_EVERY == 0:
        targets.check(targets.stretched(data, STRETCHED))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
