# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The main job: from MUSE cubes and HST images to results, PSF against wavelength, and a report.

Each exposure is a task of its own: its wideband images are made in one pass over the cube, then
each is compared with the HST image of its filter. What fails keeps its row in the table, with the
reason, and the rest goes on.
"""

from .planning import RunPlan, identify_filters, plan_run
from .record import RunSummary, remake_report
from .running import run

__all__ = ["RunPlan", "RunSummary", "identify_filters", "plan_run", "remake_report", "run"]
