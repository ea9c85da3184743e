"""What holds while a model loads: one at a time, quietly, and one kind of error."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from ctxshaper import tracing
from ctxshaper.errors import CtxshaperError, MissingDependencyError, ModelError
from ctxshaper.models.finding import ModelSource

# transformers sets torch's default type, its own verbosity and its progress bars for the whole process while it loads:
# one model at a time, so that each is set back to what it was and not to what another thread had set meanwhile.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def loading(source: ModelSource) -> Iterator[None]:
    """Load one model at a time, with transformers quiet, and every failure as one clear error.

    Raises:
        MissingDependencyError: transformers is not installed.
        ModelError: whatever went wrong.
    """
    try:
        import torch
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise MissingDependencyError("reading needs torch and transformers; pip install 'ctxshaper[reader]'") from error
    with tracing.span("ctxshaper.load", model=source.name), _ONE_AT_A_TIME, _quiet(transformers_logging):
        try:
            yield
        except (CtxshaperError, MemoryError):
            raise
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the model {source.name!r} does not fit beside what the device's memory holds already; end what else "
                f"runs there, or take a smaller model or device='cpu': {error}"
            ) from error
        except Exception as error:
            # Files of others can be broken in every way: safetensors, tokenizers and configs each have their errors.
            raise ModelError(
                f"cannot load the model {source.name!r} from {source.location!r}; check the name, or download it again "
                f"and pass the folder: {error}"
            ) from error


@contextlib.contextmanager
def _quiet(transformers_logging: Any) -> Iterator[None]:
    """Progress bars off and errors only; afterwards as before, unless somebody else changed them meanwhile."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

    shown, hub_shown = transformers_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    level = transformers_logging.get_verbosity()
    quiet = transformers_logging.ERROR
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(quiet)
    try:
        yield
    finally:
        if transformers_logging.get_verbosity() == quiet:
            transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()  # the hub's too
        if not hub_shown:
            disable_progress_bars()
