"""What others wrote and we have to run is run in a process with little time and memory."""

from receptance.serving.confinement.process import Confined, ConfinedError

__all__ = ["Confined", "ConfinedError"]
