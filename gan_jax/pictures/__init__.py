"""Pictures that a person looks at: grids of samples, scatter plots of 2-D toys, training curves, sweeps. All are PNG files.

Every file is written under another name and renamed, so a reader never meets half a picture. Pillow, matplotlib and pandas
are imported where they are used, and matplotlib without pyplot: no global state, no window, any thread.
"""

from gan_jax.pictures.curves import curves_figure, training_curves
from gan_jax.pictures.figures import as_image
from gan_jax.pictures.grids import points_plot, sample_grid, save_png, to_uint8
from gan_jax.pictures.sweeps import Panel, dose_response, gap_curves, ranking_figure, sample_sheet, seed_bands

__all__ = [
    "Panel",
    "as_image",
    "curves_figure",
    "dose_response",
    "gap_curves",
    "points_plot",
    "ranking_figure",
    "sample_grid",
    "sample_sheet",
    "save_png",
    "seed_bands",
    "to_uint8",
    "training_curves",
]
