"""Figures 1–41 of Moalla et al. 2024, "No Representation, No Trust" (NeurIPS, arXiv 2405.00662), as data and drawing.

Grouped by kind: curves by epochs (`epochs`), single runs (`single`), low ratios (`scatter`), the toy (`toy`), box plots
and curves under remedies (`remedies`, `remedy_curves`), longer runs (`longer`), clip ranges (`epsilon`), masked rewards
(`masked`) and agreement of ranks (`rank_agreement`). Where we do not know which of the paper's numbers belongs to which
task, the order is ours and the title says so.
"""

from escapevelocity.study.papers.nrnt import (
    epochs,
    epsilon,
    longer,
    masked,
    rank_agreement,
    remedies,
    remedy_curves,
    scatter,
    single,
    toy,
)

_MODULES = (epochs, single, scatter, toy, remedies, remedy_curves, longer, epsilon, masked, rank_agreement)

FIGURES = tuple(
    sorted(
        (figure for module in _MODULES for figure in module.FIGURES),
        key=lambda one: int(one.id.split("-")[1]),
    )
)
"""In the paper's order."""
