"""Pictures of samples, 2-D toys, training curves, sweeps and reports.

All are PNG files, or matplotlib figures (`as_image` shows them). Every file is written under
another name and renamed, so a reader never meets half a picture. Pillow, matplotlib and pandas are
imported only where they are used. matplotlib is used without pyplot: no global state, no window,
any thread.
"""

from gan_jax.plots.curves import curves_figure, training_curves
from gan_jax.plots.figures import as_image
from gan_jax.plots.grids import interpolation_grid, points_plot, sample_grid, save_png, to_uint8
from gan_jax.plots.reports import closest_pairs, distance_cdfs, gap_doses, logit_histograms, overfitting_curves, quality_novelty
from gan_jax.plots.settings import Panel, gap_curves, ranking_figure, seed_bands
from gan_jax.plots.sweeps import dose_response, sample_sheet

__all__ = ["Panel", "as_image", "curves_figure", "gap_curves", "ranking_figure", "seed_bands", "training_curves"]
__all__ += ["interpolation_grid", "points_plot", "sample_grid", "save_png", "to_uint8", "dose_response", "sample_sheet"]
__all__ += ["closest_pairs", "distance_cdfs", "gap_doses", "logit_histograms", "overfitting_curves", "quality_novelty"]
