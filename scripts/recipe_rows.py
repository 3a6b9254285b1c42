"""The rows of docs/regularizers.md that are no part of a training step, or are other networks:
complete recipes, parts of networks, and what surrounds training. They have no cost beside the plain
step.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, NamedTuple


class RecipeRow(NamedTuple):
    """name: of a function of `gan_jax.recipes`. source: of its numbers. test: the test's function.
    shape: of an example, None for points. paper: authors and year, where the docstring does not
    name them."""

    name: str
    source: str
    test: str = "test_all_that_a_recipe_says_is_what_was_published"
    shape: tuple[int, ...] | None = (32, 32, 3)
    paper: str = ""

    def recipe(self) -> Any:
        """The recipe at its published size, without classes."""
        from gan_jax import recipes

        return getattr(recipes, self.name)(*([] if self.shape is None else [self.shape]))

    def parameters(self) -> dict[str, int]:
        """{player: its number of parameters} at the published width, without classes."""
        import jax

        from gan_jax.gan.game import game_of

        recipe = self.recipe()
        state = jax.eval_shape(game_of(recipe).init, recipe, jax.random.key(0))
        players = {name: getattr(state, name, None) for name in ("generator", "discriminator", "encoder", "decoder")}
        size = lambda params: sum(x.size for x in jax.tree.leaves(params))
        return {name: size(player.params) for name, player in players.items() if player is not None}

    def networks(self) -> str:
        """The file of `gan_jax/networks` that has the recipe's discriminator, or its encoder."""
        recipe = self.recipe()
        net = (recipe.encoder if hasattr(recipe, "likelihood") else recipe.discriminator).net
        module = net.module if hasattr(net, "module") else net.net.module
        return type(module).__module__.rpartition(".")[2]


class NamedRow(NamedTuple):
    """Something with a paper and a test. where: "module:name", or "module:name.parameter", within
    gan_jax. value: the published one. test: the test's function."""

    kind: str
    name: str
    paper: str
    where: str
    value: str
    test: str

    def found(self) -> Any:
        """The function or class that has it. Raises AttributeError or ImportError for a wrong
        place."""
        module, _, path = self.where.partition(":")
        return resolve_name(f"gan_jax.{module}:{path.split('.')[0]}")


RECIPES = [
    RecipeRow("dcgan", "the article", paper="Radford et al., 2016"),
    RecipeRow("mlp", "gan_jax", "test_the_perceptrons_are_their_matrix_products", (2,)),
    RecipeRow("pacgan_toy", "the authors' code", "test_the_recipe_has_the_published_numbers", (2,)),
    RecipeRow("dirac", "the paper", "test_the_slope_of_one_step_is_the_matrix", None),
    RecipeRow("wgan_gp", "algorithm 1; the article's networks"),
    RecipeRow("sngan", "table 3; mimicry"),
    RecipeRow("biggan", "the authors' launch_cifar_ema.sh"),
    RecipeRow("biggan_diffaugment", "the authors' CIFAR scripts"),
    RecipeRow("lecam", "the authors' CIFAR scripts"),
    RecipeRow("stylegan2_ada", "the authors' `cfg=cifar`"),
    RecipeRow("r3gan", "the authors' train.py, CIFAR-10"),
    RecipeRow("vae", "gan_jax", "test_a_trained_linear_vae_reaches_the_likelihood_of_probabilistic_pca",
              paper="Kingma & Welling, 2014"),
    RecipeRow("vae_gan", "gan_jax", "test_without_reconstruction_the_generator_of_a_vae_gan_has_the_gan_s_two_losses"),
]  # fmt: skip

PARTS = [
    NamedRow("part of networks", name, paper, f"networks.{where}", value, f"test_{test}")
    for name, paper, where, value, test in (
        ("style mixing", "Karras et al., 2019", "stylegan2:Generator.mixing", ".9 at 256 pixels, none for CIFAR-10",
         "each_example_s_later_layers_may_come_from_a_second_z"),
        ("noise inputs", "Karras et al., 2019", "stylegan2:Generator.noise", "1",
         "noise_is_each_example_s_own_in_training_and_one_in_evaluation"),
        ("truncation psi", "Karras et al., 2019", "stylegan2:Generator.truncation", "in evaluation, where 1 changes nothing",
         "truncation_to_nothing_gives_the_average_image"),
        ("minibatch standard deviation", "Karras et al., 2018", "stylegan2:Discriminator.group", "4; 32 for CIFAR-10",
         "minibatch_std_is_pytorch_s_but_for_the_order_of_the_batch"),
        ("equalised learning rates", "Karras et al., 2018", "stylegan2_parts:Dense.rate", "1; .01 in the mapping network",
         "equalised_layers_begin_with_variance_one_whatever_their_rate"),
        ("self-attention in G", "Zhang et al., 2019", "biggan:Generator.attention", "64, the side of its map; 0 for CIFAR-10",
         "attention_is_the_authors"),
        ("self-attention in D", "Zhang et al., 2019", "biggan:Discriminator.attention", "64; 0 for CIFAR-10",
         "attention_is_the_authors"),
        ("conditional batch norm", "Dumoulin et al., 2017", "sngan:ConditionalBatchNorm", "-",
         "a_class_s_scale_and_shift_are_its_row"),
        ("hierarchical latents", "Brock et al., 2019", "biggan:Generator.hierarchical", "yes; no for CIFAR-10",
         "a_block_s_chunk_of_z_reaches_its_own_batch_norms_alone"),
        ("shared label embedding", "Brock et al., 2019", "biggan:Generator.shared", "128; 0 for CIFAR-10",
         "the_whole_networks_are_the_authors"),
        ("orthogonal start", "Saxe et al., 2014; Brock et al., 2019", "biggan:Generator.start", "orthogonal; CIFAR-10: normal",
         "orthogonal_weights_start_orthogonal"),
        ("grouped convolutions", "Xie et al., 2017; Huang et al., 2024", "r3gan:Generator.cardinalities", "width / 8",
         "a_grouped_convolution_is_the_library_s_for_every_member_of_a_population"),
        ("maxout", "Goodfellow et al., 2013", "maxout:Discriminator.pieces", "5",
         "the_discriminator_takes_the_largest_of_its_pieces"),
        ("representation for MMD", "Li et al., 2017", "dcgan:Discriminator.representation", "16",
         "mmd_is_the_double_loop"),
        ("U-Net (imputation)", "Ronneberger et al., 2015", "unet:UNet", "-",
         "a_pixel_is_answered_from_its_neighbourhood_values_and_mask_alike"),
    )
]  # fmt: skip

AROUND = [
    NamedRow("around training", name, paper, where, value, f"test_{test}")
    for name, paper, where, value, test in (
        ("warm start", "Wang et al., 2018", "training.fit:fit.warm_start", "-",
         "a_warm_start_is_the_other_run_s_networks_with_fresh_optimizers"),
        ("samples of the moving average", "Yazici et al., 2019", "gan.step:sample.ema", "yes",
         "samples_come_from_the_moving_average_in_evaluation_or_from_the_generator_as_it_is"),
        ("discriminator rejection sampling", "Azadi et al., 2019", "report.rejection:rejection_samples.percentile", "80",
         "acceptance_turns_the_generator_s_distribution_into_the_data_s"),
        ("spherical interpolation", "Shoemake, 1985; White, 2016", "latents:slerp.share", "-",
         "slerp_turns_by_equal_angles"),
        ("interpolation", "White, 2016", "latents:interpolate.spherical", "yes",
         "interpolations_have_both_ends_and_equal_steps"),
        ("paths between samples", "White, 2016", "training.generation:paths.steps", "9",
         "paths_go_from_sample_to_sample"),
        ("truncation of samples", "Brock et al., 2019; Karras et al., 2019", "training.generation:with_truncation.truncation",
         "-", "truncation_of_another_gan_is_the_threshold_of_its_latents"),
    )
]  # fmt: skip

NAMED = PARTS + AROUND
