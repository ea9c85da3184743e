"""Models: finding, loading and running language models and embedding models."""
