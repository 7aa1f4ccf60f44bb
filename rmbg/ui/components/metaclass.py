"""Metaclass for Gradio components that are defined in an app."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

from gradio.component_meta import ComponentMeta


class AppComponentMeta(ComponentMeta):
    """``ComponentMeta`` that writes no ``.pyi`` file next to the defining module, whose folder may be read-only.

    For subclasses that define neither ``__init__`` nor events: those of the base class remain in effect.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> AppComponentMeta:
        return ABCMeta.__new__(cls, name, bases, attributes)
