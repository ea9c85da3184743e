"""The unpacked copy of a GGUF model in the user's cache: checked before it is used, repaired when it is damaged."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from ctxshaper.models.finding import EMBEDDED_LM, ModelSource
from ctxshaper.models.guard import loading
from ctxshaper.models.hashing import file_hash

_MANIFEST = "manifest.json"
_LAYOUT = 1  # of the copy: versions that write it in another way keep theirs beside this one
# A larger file's copy would fill the disk of somebody who did not ask for it.
_LARGEST = 2**30
# Caches that could not be written: to try again would cost ten seconds each time.
_GIVEN_UP: set[Path] = set()


def unpacked(source: ModelSource) -> ModelSource:
    """A GGUF model from its copy in the cache, made or repaired if need be; any other source as it is.

    transformers parses a GGUF file's header several times over: ten seconds in all for the embedded model, two minutes
    for one with Gemma's 262,144 tokens. From the copy (float16: two bytes a weight, 270 MB of the embedded one) it
    loads in a few. The copy holds a manifest with the SHA-256 of its files, checked once per process; a copy that
    differs is made anew. Where the cache cannot be written, the GGUF file itself is loaded, with a warning; a file of
    more than a gibibyte is loaded as it is.

    Raises:
        ModelError: the GGUF file cannot be unpacked.
    """
    if not source.gguf_file:
        return source
    with loading(source):
        if source.files()[0].stat().st_size > _LARGEST:
            return source
    folder = _folder(source)
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
                f"no copy of {source.name!r} is kept in {folder.parent} ({error}); the model is unpacked at every "
                "start, which is slow. Where that folder cannot be written, name another in XDG_CACHE_HOME",
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


def _folder(source: ModelSource) -> Path | None:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        warnings.warn(
            "there is no home to keep the unpacked model in; it is unpacked at every start, which is slow. Name a "
            "folder in XDG_CACHE_HOME",
            stacklevel=3,
        )
        return None
    name = EMBEDDED_LM if source.name == EMBEDDED_LM else Path(str(source.gguf_file)).stem
    with loading(source):
        return root / "ctxshaper" / f"{name}-{file_hash(source.files()[0])[:16]}-float16-v{_LAYOUT}"


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
    """Unpack in a process of its own.

    So its gigabyte of memory goes back at its end, and transformers' bar of progress, which no setting reaches, is not
    drawn on somebody's terminal or log.

    Raises:
        OSError: it failed.
    """
    if not sys.executable or getattr(sys, "frozen", False):  # a program that holds Python, not Python
        write_copy(source.location, str(source.gguf_file), str(folder))
        return
    program = f"import sys; from {__name__} import write_copy; write_copy(*sys.argv[1:])"
    ran = subprocess.run(  # noqa: S603  # this interpreter and this module
        [sys.executable, "-c", program, source.location, str(source.gguf_file), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ran.returncode:
        raise OSError((ran.stderr.strip().splitlines() or [f"unpacking ended with {ran.returncode}"])[-1])


def write_copy(location: str, gguf_file: str, folder: str) -> None:
    """Unpack a GGUF file into a folder, in float16.

    Raises:
        OSError: the folder cannot be written, or float16 cannot hold the weights.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = ModelSource(gguf_file, location, gguf_file).arguments()
    tokenizer = AutoTokenizer.from_pretrained(location, **arguments)
    model = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float16, **arguments, **dequantized())
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise OSError("it has weights that float16 cannot hold")
    # The copy is plain float16: nothing in it says that it came from packed weights.
    vars(model.config).pop("quantization_config", None)
    try:
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    except SafetensorError as error:  # safetensors has an error of its own for a full disk
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
