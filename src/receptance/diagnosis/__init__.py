"""What this machine can run: versions, devices, and each op's implementations."""

from receptance.diagnosis.examination import Examination, examine
from receptance.diagnosis.machine import Device, Disk, Processor
from receptance.diagnosis.operations import OpFinding

__all__ = ["Device", "Disk", "Examination", "OpFinding", "Processor", "examine"]
