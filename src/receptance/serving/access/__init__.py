"""Who may call: the keys, and the owner that each one stands for."""

from receptance.serving.access.key_ring import KeyRing

__all__ = ["KeyRing"]
