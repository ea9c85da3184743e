"""Pipelines: stages in a row, recipes that describe them, the budget's last word; sessions, which shape chats."""

from ctxshaper.pipelines.chats import SetAsideRound, ShapedChat, ShapedItem
from ctxshaper.pipelines.pipeline import Pipeline
from ctxshaper.pipelines.recipes import Recipe, shipped_recipes
from ctxshaper.pipelines.session import Session

__all__ = ["Pipeline", "Recipe", "Session", "SetAsideRound", "ShapedChat", "ShapedItem", "shipped_recipes"]
