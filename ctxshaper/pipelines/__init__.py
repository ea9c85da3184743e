"""Pipelines: stages in a row, recipes that describe them, the budget's last word."""

from ctxshaper.pipelines.pipeline import Pipeline
from ctxshaper.pipelines.recipes import Recipe, shipped_recipes

__all__ = ["Pipeline", "Recipe", "shipped_recipes"]
