"""The checkpoints of a run: what is in them, how they are written, and which of them stay.

`checkpoints` writes and finds them, the rest is what it takes: the weights and moments (whole,
sharded over ranks, or only of what is trained), the states of the sequences and of the random
number generators, the manifest and the commit that let one appear whole or not at all, the thread
that saves while the run goes on, the room on the disk, what is kept, and what a run's bits depend
on besides.
"""

from receptance.training.checkpoints.checkpoints import Checkpoints, Loaded, Progress, SaveReport
from receptance.training.checkpoints.history import list_checkpoints, newest_good
from receptance.training.checkpoints.random_states import seed_random_states
from receptance.training.checkpoints.retention import Retention
from receptance.training.checkpoints.sharded_tensors import ShardedTensors
from receptance.training.checkpoints.trained_tensors import TrainedTensors
from receptance.training.checkpoints.whole_tensors import TensorStorage, WholeTensors

__all__ = [
    "Checkpoints",
    "Loaded",
    "Progress",
    "Retention",
    "SaveReport",
    "ShardedTensors",
    "TensorStorage",
    "TrainedTensors",
    "WholeTensors",
    "list_checkpoints",
    "newest_good",
    "seed_random_states",
]
