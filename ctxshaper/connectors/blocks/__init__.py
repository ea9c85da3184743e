"""A shaped context in the blocks of the model APIs, and what they cite back to the characters of the source.

Pure converters: they take and make plain dicts and import no SDK; objects of the SDKs are read by their attributes.
"""

from ctxshaper.connectors.blocks.chat_documents import ChatDocuments
from ctxshaper.connectors.blocks.numbers import NumberedCitation, map_numbers
from ctxshaper.connectors.blocks.search_results import SearchResults, search_result_passages

__all__ = ["ChatDocuments", "NumberedCitation", "SearchResults", "map_numbers", "search_result_passages"]
