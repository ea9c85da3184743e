"""What is computed once per passage, kept on disk for all processes and restarts."""

from ctxshaper.reading.store.key_store import KeyStore
from ctxshaper.reading.store.report import NamespaceStat, StoreCheck, StoreStat

__all__ = ["KeyStore", "NamespaceStat", "StoreCheck", "StoreStat"]
