"""The ASR gravity well (Dou et al. 2022, arXiv 2208.08056) and what its papers leave open, as data and drawing.

The papers number no figure that we know of, so the figures have names: the curves of the well (`gravity-well`), its
measures over the start's mean and spread (`starts`), the escort head (`heads`) and the curriculum (`curriculum`).
"""

from escapevelocity.study.papers.asr import figures, starts

FIGURES = (figures.GRAVITY_WELL, *starts.FIGURES, figures.HEADS_FIGURE, figures.CURRICULUM_FIGURE)
"""In the order of `metric_learning.md`'s questions."""
