"""The embedded model's unpacked copy in the user's cache: checked before it is used, repaired when it is damaged."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctxshaper.models.finding import EMBEDDED_LM, EMBEDDED_LM_SHA256, ModelSource
from ctxshaper.models.guard import loading
from ctxshaper.models.hashing import file_hash

_MANIFEST = "manifest.json"
# Caches that could not be written: to try again would cost ten seconds each time.
_GIVEN_UP: set[Path] = set()


def unpacked(source: ModelSource) -> ModelSource:
    """The embedded model from its copy in the cache, made or repaired if need be; any other source as it is.

    transformers parses a GGUF file's header several times over, some ten seconds in all; from the copy (float16, 270
    MB) the model loads in one. The copy holds a manifest with the SHA-256 of its files, checked once per process; a
    copy that differs is made anew. Where the cache cannot be written, the GGUF file itself is loaded, with a warning.

    Raises:
        ModelError: the GGUF file cannot be unpacked.
    """
    if source.name != EMBEDDED_LM or not source.gguf_file:
        return source
    folder = _folder()
    return source if folder is None else kept(source, folder)


def kept(source: ModelSource, folder: Path) -> ModelSource:
    """A GGUF model from a copy in a folder, made or repaired if need be; see `unpacked`."""
    if folder in _GIVEN_UP:
        return source
    with loading(source):
        digest = file_hash(source.files()[0])
        try:
            if not intact(folder, digest):
                _unpack(source, folder, digest)
        except OSError as error:
            _GIVEN_UP.add(folder)
            warnings.warn(
                f"{folder.parent} cannot be used ({error}); the model is unpacked at every start, some ten seconds. "
                "Name a folder that can be written in XDG_CACHE_HOME",
                stacklevel=2,
            )
            return source
    return replace(source, location=str(folder), gguf_file=None)


def intact(folder: Path, of: str) -> bool:
    """Whether a folder holds a copy of the GGUF file of this SHA-256, byte for byte as it was written."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = [(folder / Path(name).name, digest) for name, digest in manifest["sha256"].items()]
        return manifest["of"] == of and all(file_hash(path) == digest for path, digest in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _folder() -> Path | None:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        warnings.warn(
            "there is no home to keep the unpacked model in; it is unpacked at every start, some ten seconds. Name a "
            "folder in XDG_CACHE_HOME",
            stacklevel=3,
        )
        return None
    return root / "ctxshaper" / f"{EMBEDDED_LM}-{EMBEDDED_LM_SHA256[:16]}-float16"


def _unpack(source: ModelSource, folder: Path, of: str) -> None:
    """Write a copy.

    Raises:
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made first: a cache that cannot be written shows before the work and not behind it.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        partial = Path(made) / folder.name
        partial.mkdir()
        _write(source, partial)
        digests = {path.name: file_hash(path) for path in sorted(partial.iterdir())}
        manifest = {"of": of, "sha256": digests}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        # Steps of one rename each, so that another process sees a whole copy or none; it may win the race.
        with contextlib.suppress(FileNotFoundError):
            folder.rename(Path(made) / "damaged")
        try:
            partial.rename(folder)
        except OSError:
            if not intact(folder, of):
                raise


def _write(source: ModelSource, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = source.arguments()
    tokenizer = AutoTokenizer.from_pretrained(source.location, **arguments)
    model = AutoModelForCausalLM.from_pretrained(source.location, dtype=torch.float16, **arguments, **dequantized())
    # The copy is plain float16: nothing in it says that it came from packed weights.
    vars(model.config).pop("quantization_config", None)
    # safetensors has an error of its own for a full disk.
    from safetensors import SafetensorError

    try:
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def dequantized() -> dict[str, Any]:
    """The argument of `from_pretrained` that unpacks GGUF weights.

    Newer transformers would fetch compiled kernels from the hub for packed weights when the package `kernels` is
    installed; remote code is never taken.
    """
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
