"""Fitting to a model: which heads carry relevance, which positions a generator reads, and made-up questions."""
