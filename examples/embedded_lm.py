"""The embedded SmolLM2 as a chat model of LangChain and as an LLM of LlamaIndex, so that the examples need no network.

Put your own model in its place: ChatOpenAI, ChatAnthropic, HuggingFaceLLM, ...
"""

from collections.abc import Iterator
from typing import Any

import torch
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback

from ctxshaper import LanguageModel

MAX_NEW = 24
LM = LanguageModel()  # loaded at first use; a shaper's reader of the same model shares its layers


@torch.inference_mode()
def stream(messages: list[dict[str, Any]]) -> Iterator[str]:
    """The likeliest continuation, as it grows."""
    model, tokenizer = LM.model, LM.tokenizer
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt").input_ids.to(LM.device)
    memory, made, said = None, [], ""
    for _ in range(MAX_NEW):
        out = model(ids, past_key_values=memory, use_cache=True)
        ids, memory = out.logits[:, -1:].argmax(-1), out.past_key_values
        if ids.item() == tokenizer.eos_token_id:
            return
        made.append(ids.item())
        text = tokenizer.decode(made)
        yield text[len(said) :]
        said = text


class SmolChat(BaseChatModel):
    """For LangChain."""

    @property
    def _llm_type(self) -> str:
        return "smollm2"

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for text in stream(convert_to_openai_messages(messages)):
            yield ChatGenerationChunk(message=AIMessageChunk(text))

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        text = "".join(stream(convert_to_openai_messages(messages)))
        return ChatResult(generations=[ChatGeneration(message=AIMessageChunk(text))])


class SmolLLM(CustomLLM):
    """For LlamaIndex."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=8192, num_output=MAX_NEW, model_name="smollm2")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="".join(stream([{"role": "user", "content": prompt}])))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        said = ""
        for text in stream([{"role": "user", "content": prompt}]):
            said += text
            yield CompletionResponse(text=said, delta=text)
