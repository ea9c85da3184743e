"""Values for the store's tests: told by their number, so that any process can check what it reads."""

import hashlib
import subprocess
import sys

HEAD = """
import os, random, signal, sys
from pathlib import Path
from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, value
"""


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def value(number: int, size: int = 17_160) -> bytes:
    return (hashlib.sha256(str(number).encode()).digest() * (size // 32 + 1))[:size]


def values(*numbers: int) -> dict[bytes, bytes]:
    return {key(number): value(number) for number in numbers}


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs the code with these helpers."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, *arguments: object) -> str:
    """What the process printed; its failure is the test's."""
    process = script(code, *arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out + err
