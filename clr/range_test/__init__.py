"""The learning rate range test: raise the rate batch by batch, and read the bounds off the loss."""

from clr.range_test.batches import has_none as has_none
from clr.range_test.batches import is_arrays as is_arrays
from clr.range_test.batches import is_endless as is_endless
from clr.range_test.batches import is_once as is_once
from clr.range_test.curve import FEWEST_POINTS as FEWEST_POINTS
from clr.range_test.curve import SKIP_FIRST as SKIP_FIRST
from clr.range_test.curve import SKIP_LAST as SKIP_LAST
from clr.range_test.reading import SMITH as SMITH
from clr.range_test.reading import SOURCES
from clr.range_test.result import RangeTest, Suggestion
from clr.range_test.rising import lr_range_test
from clr.range_test.settings import FEWEST_STEPS as FEWEST_STEPS
from clr.range_test.settings import SCHEDULES as SCHEDULES
from clr.range_test.undoing import BACKENDS as BACKENDS
from clr.range_test.undoing import random_states_kept as random_states_kept

__all__ = ["SOURCES", "RangeTest", "Suggestion", "lr_range_test"]
