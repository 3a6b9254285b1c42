"""ADA: StyleGAN2-ADA's augmentations, with a probability that a controller can drive."""

from gan_jax.augment.ada_colour import colour_matrix, draw_colour, recoloured
from gan_jax.augment.ada_corruptions import cutout, image_filter, noise
from gan_jax.augment.ada_geometry import draw_blit, draw_geometry, inverse_matrix, warp
from gan_jax.augment.parts import Images, image_part
from gan_jax.core.errors import UserError
from gan_jax.core.rng import Draws

PIPES = {name: (name,) for name in ("blit", "geom", "color", "filter", "noise", "cutout")}
PIPES |= {"bg" + "cfnc"[:n]: tuple(PIPES)[: 2 + n] for n in range(5)}  # bg, bgc, bgcf, bgcfn, bgcfnc


@image_part("augment")
def ada(
    images: Images, labels, draws: Draws, *, p, pipe: str = "bgc", xint_max=0.125, scale_std=0.2,
    rotate_max=1.0, aniso_std=0.2, xfrac_std=0.125, brightness_std=0.2, contrast_std=0.5, hue_max=1.0, saturation_std=1.0,
    filter_std=1.0, noise_std=0.1, cutout_size=0.5,
) -> Images:  # fmt: skip
    """ADA's pipeline, of which each operation changes an example with probability p (Karras et al.,
    2020b, appendix B).

    p: clipped to [0, 1]; 0 changes nothing but rounding. Drive it with `controllers.ada`. Near 1
    the augmentation leaks into the samples; below about .8 it does not (section 2.2).
    pipe: as in the published code, 'blit' (x-flip, 90-degree rotations, integer translation),
    'geom' (scale, rotation, anisotropic scale, fractional translation), 'color' (brightness,
    contrast, luma flip, hue, saturation; for 1 or 3 channels), 'filter', 'noise', 'cutout', or the
    first two to six of them: 'bg', 'bgc' (the default, as in the paper), 'bgcf', 'bgcfn', 'bgcfnc'.
    others: ranges, with the published code's names and values. Of `ada_geometry`: xint_max 1/8,
    scale_std .2, rotate_max 1, aniso_std .2, xfrac_std 1/8; of `ada_colour`: brightness_std .2,
    contrast_std .5, hue_max 1, saturation_std 1; of `ada_corruptions`: filter_std 1, noise_std .1,
    cutout_size .5.

    As in the published code, 'blit' resamples, which softens flipped and turned images, because the
    filter sym6 is not quite symmetric. `ada_geometry.xflip` and its like copy pixels instead.
    Raises UserError for an unknown pipe."""
    if pipe not in PIPES:
        raise UserError(f"unknown ADA pipe {pipe!r}: use one of {', '.join(PIPES)}")
    parts, dtype = PIPES[pipe], images.dtype
    geometry = draw_blit(draws.named("blit"), p, dtype, xint_max) if "blit" in parts else {}
    if "geom" in parts:
        geometry |= draw_geometry(draws.named("geom"), p, dtype, scale_std, rotate_max, aniso_std, xfrac_std)
    if geometry:
        images = warp(images, inverse_matrix(geometry, (images.shape[2], images.shape[1])))
    if "color" in parts:
        parameters = draw_colour(draws.named("color"), p, dtype, brightness_std, contrast_std, hue_max, saturation_std)
        images = recoloured(images, colour_matrix(parameters, images.shape[3]))
    if "filter" in parts:
        images = image_filter(images, labels, draws.named("filter"), p=p, std=filter_std)
    if "noise" in parts:
        images = noise(images, labels, draws.named("noise"), p=p, std=noise_std)
    if "cutout" in parts:
        images = cutout(images, labels, draws.named("cutout"), p=p, size=cutout_size)
    return images
