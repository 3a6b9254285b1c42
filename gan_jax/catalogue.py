"""What is named rather than added to a recipe: complete recipes, parts of networks, and what
surrounds training.

The tables of `docs/zoo.md` that have no cost beside the plain step, since they are other networks,
or no part of a step. Their papers and places are checked by `tests/test_zoo.py`; `zoo.ITEMS` has
what can be added to any recipe.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import jax
import numpy as np


class Whole(NamedTuple):
    """A recipe of `gan_jax.recipes`. networks: file of `gan_jax/networks`; shape: of the examples;
    source: of its numbers."""

    name: str
    networks: str
    paper: str
    source: str
    shape: tuple[int, ...] | None
    test: str

    def recipe(self) -> Any:
        from gan_jax import recipes

        return getattr(recipes, self.name)(*([] if self.shape is None else [self.shape]))

    def parameters(self) -> dict[str, int]:
        """{player: its number of parameters} at the published width, without classes."""
        recipe = self.recipe()
        from gan_jax.gan.game import game_of

        state = jax.eval_shape(game_of(recipe).init, recipe, jax.random.key(0))
        players = {name: getattr(state, name, None) for name in ("generator", "discriminator", "encoder", "decoder")}
        size = lambda params: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
        return {name: size(player.params) for name, player in players.items() if player is not None}


class Named(NamedTuple):
    """Something with a paper and a test. where: module:attribute, or module:attribute.parameter;
    value: the published one."""

    kind: str
    name: str
    paper: str
    where: str
    value: str
    test: str

    def found(self) -> Any:
        """The function or class that has it. Raises AttributeError or ImportError where it has
        not."""
        module, _, path = self.where.partition(":")
        return getattr(importlib.import_module(f"gan_jax.{module}"), path.split(".")[0])


RGB = (32, 32, 3)
_SAID = "test_recipes.py::test_all_that_a_recipe_says_is_what_was_published"

RECIPES = [
    Whole("dcgan", "dcgan", "Radford et al., 2016", "the article", RGB, _SAID),
    Whole("mlp", "mlp", "-", "gan_jax", (2,), "test_networks.py::test_the_perceptrons_are_their_matrix_products"),
    Whole("pacgan_toy", "maxout", "Lin et al., 2018", "the authors' code", (2,),
          "test_maxout.py::test_the_recipe_has_the_published_numbers"),
    Whole("dirac", "dirac", "Mescheder et al., 2018", "the paper", None,
          "test_dirac.py::test_the_slope_of_one_step_is_the_matrix"),
    Whole("wgan_gp", "dcgan", "Gulrajani et al., 2017", "algorithm 1; the article's networks", RGB, _SAID),
    Whole("sngan", "sngan", "Miyato et al., 2018", "table 3; mimicry", RGB, _SAID),
    Whole("biggan", "biggan", "Brock et al., 2019", "the authors' launch_cifar_ema.sh", RGB, _SAID),
    Whole("biggan_diffaugment", "biggan", "Zhao et al., 2020", "the authors' CIFAR scripts", RGB, _SAID),
    Whole("lecam", "biggan", "Tseng et al., 2021", "the authors' CIFAR scripts", RGB, _SAID),
    Whole("stylegan2_ada", "stylegan2", "Karras et al., 2020b", "the authors' `cfg=cifar`", RGB, _SAID),
    Whole("r3gan", "r3gan", "Huang et al., 2024", "the authors' train.py, CIFAR-10", RGB, _SAID),
    Whole("vae", "dcgan", "Kingma & Welling, 2014", "gan_jax", RGB,
          "test_vae.py::test_a_trained_linear_vae_reaches_the_likelihood_of_probabilistic_pca"),
    Whole("vae_gan", "dcgan", "Larsen et al., 2016", "gan_jax", RGB,
          "test_vae.py::test_without_reconstruction_the_generator_of_a_vae_gan_has_the_gan_s_two_losses"),
]  # fmt: skip

PARTS = [
    Named("part of networks", name, paper, f"networks.{where}", value, f"test_{test}")
    for name, paper, where, value, test in (
        ("style mixing", "Karras et al., 2019", "stylegan2:Generator.mixing", ".9 at 256 pixels, none for CIFAR-10",
         "stylegan2.py::test_each_example_s_later_layers_may_come_from_a_second_z"),
        ("noise inputs", "Karras et al., 2019", "stylegan2:Generator.noise", "1",
         "stylegan2.py::test_noise_is_each_example_s_own_in_training_and_one_in_evaluation"),
        ("truncation psi", "Karras et al., 2019", "stylegan2:Generator.truncation", "in evaluation, where 1 changes nothing",
         "stylegan2.py::test_truncation_to_nothing_gives_the_average_image"),
        ("minibatch standard deviation", "Karras et al., 2018", "stylegan2:Discriminator.group", "4; 32 for CIFAR-10",
         "stylegan2.py::test_minibatch_std_is_pytorch_s_but_for_the_order_of_the_batch"),
        ("equalised learning rates", "Karras et al., 2018", "stylegan2_parts:Dense.rate", "1; .01 in the mapping network",
         "stylegan2.py::test_equalised_layers_begin_with_variance_one_whatever_their_rate"),
        ("self-attention in G", "Zhang et al., 2019", "biggan:Generator.attention", "64, the side of its map; 0 for CIFAR-10",
         "biggan.py::test_attention_is_the_authors"),
        ("self-attention in D", "Zhang et al., 2019", "biggan:Discriminator.attention", "64; 0 for CIFAR-10",
         "biggan.py::test_attention_is_the_authors"),
        ("conditional batch norm", "Dumoulin et al., 2017", "sngan:ConditionalBatchNorm", "-",
         "sngan.py::test_a_class_s_scale_and_shift_are_its_row"),
        ("hierarchical latents", "Brock et al., 2019", "biggan:Generator.hierarchical", "yes; no for CIFAR-10",
         "biggan.py::test_a_block_s_chunk_of_z_reaches_its_own_batch_norms_alone"),
        ("shared label embedding", "Brock et al., 2019", "biggan:Generator.shared", "128; 0 for CIFAR-10",
         "biggan.py::test_the_whole_networks_are_the_authors"),
        ("orthogonal start", "Saxe et al., 2014; Brock et al., 2019", "biggan:Generator.start", "orthogonal; CIFAR-10: normal",
         "biggan.py::test_orthogonal_weights_start_orthogonal"),
        ("grouped convolutions", "Xie et al., 2017; Huang et al., 2024", "r3gan:Generator.cardinalities", "width / 8",
         "r3gan.py::test_a_grouped_convolution_is_the_library_s_for_every_member_of_a_population"),
        ("maxout", "Goodfellow et al., 2013", "maxout:Discriminator.pieces", "5",
         "maxout.py::test_the_discriminator_takes_the_largest_of_its_pieces"),
        ("representation for MMD", "Li et al., 2017", "dcgan:Discriminator.representation", "16",
         "batch_losses.py::test_mmd_is_the_double_loop"),
        ("U-Net (imputation)", "Ronneberger et al., 2015", "unet:UNet", "-",
         "unet.py::test_a_pixel_is_answered_from_its_neighbourhood_values_and_mask_alike"),
    )
]  # fmt: skip

AROUND = [
    Named("around training", name, paper, where, value, f"test_{test}")
    for name, paper, where, value, test in (
        ("warm start", "Wang et al., 2018", "loop:fit.warm_start", "-",
         "warm_start.py::test_a_warm_start_is_the_other_run_s_networks_with_fresh_optimizers"),
        ("samples of the moving average", "Yazici et al., 2019", "train:sample.ema", "yes",
         "train.py::test_samples_come_from_the_moving_average_in_evaluation_or_from_the_generator_as_it_is"),
        ("discriminator rejection sampling", "Azadi et al., 2019", "sampling:rejection_samples.percentile", "80",
         "imbalance.py::test_acceptance_turns_the_generator_s_distribution_into_the_data_s"),
        ("spherical interpolation", "Shoemake, 1985; White, 2016", "latents:slerp.share", "-",
         "latents.py::test_slerp_turns_by_equal_angles"),
        ("interpolation", "White, 2016", "latents:interpolate.spherical", "yes",
         "latents.py::test_interpolations_have_both_ends_and_equal_steps"),
        ("paths between samples", "White, 2016", "latents:paths.steps", "9",
         "latents.py::test_paths_go_from_sample_to_sample"),
        ("truncation of samples", "Brock et al., 2019; Karras et al., 2019", "latents:with_truncation.truncation", "-",
         "look.py::test_truncation_of_another_gan_is_the_threshold_of_its_latents"),
    )
]  # fmt: skip

NAMED = PARTS + AROUND
