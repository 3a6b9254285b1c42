"""Pictures that a person looks at: grids of samples, scatter plots of 2-D toys, training curves,
sweeps, overfitting.

All are PNG files, or matplotlib figures (`as_image` shows them). Every file is written under
another name and renamed, so a reader never meets half a picture. Pillow, matplotlib and pandas are
imported where they are used, and matplotlib without
pyplot: no global state, no window, any thread.
"""

from gan_jax.plots.bands import gap_curves, seed_bands
from gan_jax.plots.curves import curves_figure, training_curves
from gan_jax.plots.figures import as_image
from gan_jax.plots.grids import points_plot, sample_grid, save_png, to_uint8
from gan_jax.plots.latents import interpolation_grid
from gan_jax.plots.rankings import Panel, ranking_figure
from gan_jax.plots.reports import closest_pairs, distance_cdfs, gap_doses, logit_histograms, overfitting_curves, quality_novelty
from gan_jax.plots.sweeps import dose_response, sample_sheet

__all__ = [
    "Panel",
    "as_image",
    "closest_pairs",
    "curves_figure",
    "distance_cdfs",
    "dose_response",
    "gap_curves",
    "gap_doses",
    "interpolation_grid",
    "logit_histograms",
    "overfitting_curves",
    "points_plot",
    "quality_novelty",
    "ranking_figure",
    "sample_grid",
    "sample_sheet",
    "save_png",
    "seed_bands",
    "to_uint8",
    "training_curves",
]
