"""Loading models with transformers: complete or not at all, quietly, never remote code, never pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxshaper.errors import ModelError
from ctxshaper.models.finding import ModelSource
from ctxshaper.models.guard import loading
from ctxshaper.models.threads import fit_threads
from ctxshaper.models.unpacking import dequantized, unpacked

if TYPE_CHECKING:
    import torch


def load_lm(
    source: ModelSource,
    *,
    dtype: Any,
    layers: int | None = None,
    head: bool = False,
    device: torch.device | None = None,
) -> Any:
    """A decoder in inference mode. Weights that this process holds already are used and not held twice.

    Args:
        source: where it is.
        dtype: a torch type.
        layers: only so many of the first layers; None for all.
        head: with the language-model head (to generate), or only the decoder (to read).
        device: where it runs; None for the CPU.

    Returns:
        The transformers model. Its modules and parameters are the caller's own; what they store is shared and must not
        be written.

    Raises:
        ModelError: it cannot be loaded, lacks weights, or has fewer layers than asked.
    """
    source = source.on_disk()
    with loading(source):
        import torch

        from ctxshaper.models.sharing import place, shared, view

        fit_threads()
        source = unpacked(source)
        config = load_config(source)
        text = getattr(config, "text_config", config)
        if layers is not None and not 0 < layers <= text.num_hidden_layers:
            raise ModelError(
                f"{layers} layers of {source.name!r} are asked for, but it has {text.num_hidden_layers}; use a head "
                "profile made for this model (ctxshaper calibrate)"
            )
        device = place(device or torch.device("cpu"))
        key = (source.stamp(), str(device), dtype)
        # Parameters made in inference mode could not be pointed elsewhere.
        with torch.inference_mode(False):
            known = view(key, layers, head=head)
            if known is not None:
                return known
            model = _load(source, config, dtype, layers, head=head).to(device)
            model.eval()
            model.requires_grad_(False)
            return shared(key, model)


def _load(source: ModelSource, config: Any, dtype: Any, layers: int | None, *, head: bool) -> Any:
    from transformers import AutoModel, AutoModelForCausalLM

    arguments = source.arguments()
    if source.gguf_file:
        arguments.update(dequantized())
    else:
        arguments["use_safetensors"] = True
        if layers is not None:
            # The layers behind the last one read never reach memory.
            text = getattr(config, "text_config", config)
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:layers]
            text.num_hidden_layers = layers
        arguments["config"] = config
    kind = AutoModelForCausalLM if head else AutoModel
    model, found = kind.from_pretrained(source.location, dtype=dtype, output_loading_info=True, **arguments)
    # transformers would go on with random numbers in their place.
    lacking = sorted(found["missing_keys"]) + sorted(name for name, *_ in found["mismatched_keys"])
    if lacking:
        raise ModelError(
            f"{source.location} lacks {len(lacking)} weights of {source.name!r} or holds them in another shape: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}; download the model again"
        )
    if layers is not None and source.gguf_file:
        model.layers = model.layers[:layers]
        model.config.num_hidden_layers = layers
    return model


def load_config(source: ModelSource) -> Any:
    """A model's config of transformers.

    Raises:
        ModelError: it cannot be loaded.
    """
    source = source.on_disk()
    with loading(source):
        from transformers import AutoConfig

        source = unpacked(source)
        return AutoConfig.from_pretrained(source.location, **source.arguments())


def load_tokenizer(source: ModelSource) -> Any:
    """Load a model's tokenizer.

    Raises:
        ModelError: it cannot be loaded.
    """
    source = source.on_disk()
    with loading(source):
        from transformers import AutoTokenizer

        source = unpacked(source)
        return AutoTokenizer.from_pretrained(source.location, **source.arguments())
