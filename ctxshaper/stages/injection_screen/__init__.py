"""InjectionScreen: passages that give orders to the model are set aside visibly."""

from ctxshaper.stages.injection_screen.stage import InjectionScreen

__all__ = ["InjectionScreen"]
