"""Models on the Hugging Face hub: one quick question whether it can be reached, then its files in its own cache."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ctxshaper.errors import MissingDependencyError, ModelError

# What a decoder needs; weights for other programs lie in folders, or in files of these names.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
_UNWANTED = ["*/*", "consolidated*"]
_PATIENCE = 5.0  # seconds for the hub's first answer; its client would ask six times, for half a minute


def reachable(name: str) -> bool:
    """Whether the hub answers for this name now; asked once, without a second try.

    Raises:
        ModelError: it answers that there is no such model, or none for this user.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_PATIENCE)
    except (RepositoryNotFoundError, HFValidationError) as error:  # a gated model is an error of the first kind
        raise ModelError(
            f"the hub has no model {name!r} for you; check the name (owner/name), or log in for a private or gated one"
        ) from error
    except EntryNotFoundError:
        return True  # no config.json: loading says what is missing
    except (HfHubHTTPError, OSError):
        return False
    except Exception as error:
        # The hub's HTTP client has changed its package over time, and its errors of connection with it.
        if not type(error).__module__.startswith("httpx"):
            raise
        return False
    return True


@cache
def snapshot(name: str) -> Path:
    """The folder with a hub model's files: downloaded where the hub can be reached, else as the cache has it.

    Raises:
        MissingDependencyError: huggingface_hub is not installed.
        ModelError: there is no such model, or the hub cannot be reached and the cache does not hold it.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError("reading needs torch and transformers; pip install 'ctxshaper[reader]'") from error
    offline = not reachable(name)
    try:
        folder = snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED, local_files_only=offline)
    except (OSError, ValueError) as error:  # the hub's own errors are one or the other
        raise ModelError(
            f"download {name!r} first and pass its folder, or work with what is there already (HF_HUB_OFFLINE=1): "
            f"{'the hub cannot be reached and its cache does not hold this model' if offline else error}"
        ) from error
    return Path(folder)
