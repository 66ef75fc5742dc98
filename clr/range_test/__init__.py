"""The learning rate range test: raise the rate batch by batch, and read the bounds off the loss."""

from clr.range_test.rising import BACKENDS as BACKENDS
from clr.range_test.rising import FEWEST_POINTS as FEWEST_POINTS
from clr.range_test.rising import FEWEST_STEPS as FEWEST_STEPS
from clr.range_test.rising import SCHEDULES as SCHEDULES
from clr.range_test.rising import SKIP_FIRST as SKIP_FIRST
from clr.range_test.rising import SKIP_LAST as SKIP_LAST
from clr.range_test.rising import SMITH as SMITH
from clr.range_test.rising import SOURCES, RangeTest, Suggestion, lr_range_test

__all__ = ["SOURCES", "RangeTest", "Suggestion", "lr_range_test"]
