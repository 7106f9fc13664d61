"""All experiments, in the order of the page."""

from paper.figure_4_scaling import EXPERIMENT as FIGURE_4
from paper.figure_6_context import EXPERIMENT as FIGURE_6
from paper.figure_7_13_14_generation import EXPERIMENT as FIGURE_7
from paper.figure_9_small_init import EXPERIMENT as FIGURE_9
from paper.figure_10_decays import EXPERIMENT as FIGURE_10
from paper.figure_11_causal_trace import EXPERIMENT as FIGURE_11
from paper.gradient_stability import EXPERIMENT as GRADIENT_STABILITY
from paper.harness import Experiment
from paper.inverted_initialisation import EXPERIMENT as INVERTED_INITIALISATION
from paper.parity_read_once import EXPERIMENT as PARITY_READ_ONCE
from paper.parity_with_transformer import EXPERIMENT as PARITY
from paper.table_1_complexity import EXPERIMENT as TABLE_1
from paper.table_2_sizes import EXPERIMENT as TABLE_2
from paper.table_3_schedules import EXPERIMENT as TABLE_3
from paper.table_4_long_range_arena import EXPERIMENT as TABLE_4
from paper.table_5_enwik8 import EXPERIMENT as TABLE_5
from paper.tables_6_7_prompt_order import EXPERIMENT as TABLES_6_7
from paper.wikitext_perplexity import EXPERIMENT as WIKITEXT
from paper.zero_shot import EXPERIMENT as ZERO_SHOT

EXPERIMENTS: tuple[Experiment, ...] = (
    PARITY,
    PARITY_READ_ONCE,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLES_6_7,
    FIGURE_4,
    FIGURE_6,
    FIGURE_7,
    FIGURE_9,
    FIGURE_10,
    FIGURE_11,
    ZERO_SHOT,
    WIKITEXT,
    GRADIENT_STABILITY,
    INVERTED_INITIALISATION,
)
