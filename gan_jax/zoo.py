"""Every remedy that can be swept, by name: what it adds to a recipe, its paper, and the test that
pins it down.

    for item in zoo.ITEMS: item.add(zoo.base())

Numbers and their defaults are not written here a second time: `Item.leaves` reads them off the
recipe. `scripts/zoo.py` prints the table and measures costs; `tests/test_zoo.py` fails when
something public is missing, and trains them together. Complete recipes, and what cannot be added to
any recipe, are in `catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gan_jax import augment, controllers, latents, losses, optimizers, penalties, recipes, sampling, schedules
from gan_jax.core.bind import bind, leaves
from gan_jax.core.net import Net
from gan_jax.gan import dynamics
from gan_jax.gan.recipe import Recipe
from gan_jax.networks.label_noise import with_label_noise
from gan_jax.networks.packing import Packed
from gan_jax.networks.spectral import SpectralNorm

OWN = {"loss": "loss.", "optimizer": "discriminator.optimizer.", "play": "play.", "latent": "latent."}
"""The part of a recipe that an item of a kind stands for, even where the plain recipe has the
same."""


class Item(NamedTuple):
    """kind, name; paper: authors, year; test: file::name; add: the recipe with this in it, at its
    default."""

    kind: str
    name: str
    paper: str
    test: str
    add: Callable[[Recipe], Recipe]

    def leaves(self, before: Recipe) -> dict[str, Any]:
        """{dotted path: default} of the numbers that it brings, or sets anew, and of all in the
        part that it stands for."""
        old, own = leaves(before), OWN.get(self.kind, "-")
        mine = lambda path, value: path.startswith(own) or path not in old or not np.array_equal(old[path], value)
        return {path: value for path, value in leaves(self.add(before)).items() if mine(path, value)}


def base(**fields: Any) -> Recipe:
    """The recipe that items are added to: a small conditional DCGAN for 16 x 16 RGB images, its D
    with class logits."""
    settings = {"width": 16, "classes": 10, "conditioning": "auxiliary", "batch_size": 64} | fields
    return recipes.dcgan(settings.pop("image_shape", (16, 16, 3)), **settings)


def on(player: str, **changed: Any) -> Callable[[Recipe], Recipe]:
    """Adds to one Side: numbers and penalties join those that are there."""

    def add(recipe: Recipe) -> Recipe:
        side = getattr(recipe, player)
        joined = {k: getattr(side, k) | v if isinstance(v, dict) else v for k, v in changed.items()}
        return recipe.replace(**{player: side.replace(**joined)})

    return add


def penalty(name: str, player: str = "discriminator", **numbers: Any) -> Callable[[Recipe], Recipe]:
    return on(player, penalties={name: bind(getattr(penalties, name), **numbers)})


def fields(**changed: Any) -> Callable[[Recipe], Recipe]:
    """Sets fields of the recipe; dicts join those that are there."""
    return lambda recipe: recipe.replace(
        **{k: getattr(recipe, k) | v if isinstance(v, dict) else v for k, v in changed.items()}
    )


def net(player: str, change: Callable[[Any], Any]) -> Callable[[Recipe], Recipe]:
    return lambda recipe: on(player, net=change(getattr(recipe, player).net))(recipe)


def module(**changed: Any) -> Callable[[Recipe], Recipe]:
    """Sets fields of the discriminator's module."""
    return net("discriminator", lambda n: Net(n.module.clone(**changed)))


def _both(optimizer: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: on("generator", optimizer=optimizer)(on("discriminator", optimizer=optimizer)(recipe))


def _then(*steps: Callable[[Recipe], Recipe]) -> Callable[[Recipe], Recipe]:
    def add(recipe: Recipe) -> Recipe:
        for step in steps:
            recipe = step(recipe)
        return recipe

    return add


def _unlabelled(recipe: Recipe) -> Recipe:
    """The same without classes, for what sees none."""
    plain = [Net(side.net.module.clone(classes=0)) for side in (recipe.generator, recipe.discriminator)]
    g, d = (side.replace(net=n) for side, n in zip((recipe.generator, recipe.discriminator), plain, strict=True))
    return recipe.replace(generator=g, discriminator=d, classes=0)


def _loss(name: str, paper: str, test: str) -> Item:
    return Item("loss", name, paper, test, fields(loss=losses.LOSSES[name]))


LOSSES = [
    _loss("non_saturating", "Goodfellow et al., 2014", "test_losses.py::test_values_are_the_formulae"),
    _loss("minimax", "Goodfellow et al., 2014", "test_losses.py::test_minimax_is_a_zero_sum_game_on_fakes"),
    _loss("least_squares", "Mao et al., 2017", "test_losses.py::test_values_are_the_formulae"),
    _loss("wasserstein", "Arjovsky et al., 2017", "test_losses.py::test_values_are_the_formulae"),
    _loss("hinge", "Lim & Ye, 2017", "test_losses.py::test_hinge_is_indifferent_beyond_the_margin"),
    _loss("rpgan", "Jolicoeur-Martineau, 2019; Huang et al., 2024",
          "test_relativistic.py::test_rpgan_is_a_loop_over_pairs_of_one_place"),
    *(
        _loss(name, "Jolicoeur-Martineau, 2019",
              "test_relativistic.py::test_average_losses_are_a_loop_over_examples_against_the_other_side_s_mean")
        for name in ("relativistic_average", "relativistic_average_least_squares", "relativistic_average_hinge")
    ),
    _loss("mmd", "Li et al., 2017; Binkowski et al., 2018", "test_batch_losses.py::test_mmd_is_the_double_loop"),
    _loss("dual_contrastive", "Yu et al., 2021", "test_batch_losses.py::test_dual_contrastive_is_the_loop_over_both_sides"),
    _loss("multi_class", "Salimans et al., 2016",
          "test_conditioning.py::test_multi_class_is_cross_entropy_with_one_more_class_whose_logit_is_0"),
    _loss("multi_hinge", "Kavalerov et al., 2021", "test_conditioning.py::test_multi_hinge_is_a_loop_over_the_other_classes"),
    _loss("auxiliary_classifier", "Odena et al., 2017",
          "test_conditioning.py::test_the_auxiliary_classifier_adds_weighted_cross_entropies_to_any_loss"),
    _loss("top_k", "Sinha et al., 2020", "test_batch_losses.py::test_top_k_is_the_mean_over_the_fakes_of_highest_logits"),
    Item("loss", "label smoothing", "Salimans et al., 2016",
         "test_losses.py::test_smoothing_is_cross_entropy_with_a_lower_target_on_reals_alone",
         fields(loss=bind(losses.non_saturating, smoothing=0.1))),
    Item("loss", "blend", "-", "test_losses.py::test_a_blend_is_the_weighted_sum_and_its_weights_are_leaves",
         fields(loss=losses.blend(losses.non_saturating, losses.hinge, non_saturating=0.5, hinge=0.5))),
]  # fmt: skip

PENALTIES = [
    Item("penalty", name, paper, f"test_{test}", add)
    for name, paper, test, add in (
        ("r1", "Mescheder et al., 2018", "penalties.py::test_a_quadratic_critic_costs_four_times_the_squared_distance",
         penalty("r1", gamma=10.0)),
        ("r2", "Mescheder et al., 2018", "penalties.py::test_a_quadratic_critic_costs_four_times_the_squared_distance",
         penalty("r2", gamma=10.0)),
        ("wgan_gp", "Gulrajani et al., 2017", "penalties.py::test_wgan_gp_looks_uniformly_between_each_real_and_its_fake",
         penalty("wgan_gp", weight=10.0)),
        ("dragan", "Kodali et al., 2017", "penalties.py::test_dragan_looks_around_the_reals_within_half_their_spread",
         penalty("dragan", weight=10.0)),
        ("max_gp", "Zhou et al., 2019",
         "generator_penalties.py::test_the_maximum_penalty_is_the_square_of_the_steepest_slope_met",
         penalty("max_gp", weight=10.0)),
        ("lazy", "Karras et al., 2020a", "penalties.py::test_a_lazy_penalty_comes_every_k_steps_k_times_stronger",
         on("discriminator", penalties={"r1": penalties.lazy(bind(penalties.r1, gamma=10.0), 16)})),
        ("lecam", "Tseng et al., 2021", "lecam.py::test_the_memory_and_the_values_follow_the_recursion",
         penalty("lecam", weight=0.3)),
        ("cr", "Zhang et al., 2020", "consistency.py::test_cr_is_the_squared_difference_that_the_shift_of_a_real_makes",
         penalty("cr", weight=10.0)),
        ("bcr", "Zhao et al., 2021", "consistency.py::test_bcr_adds_the_fakes_by_their_share", penalty("bcr", weight=10.0)),
        ("zcr_discriminator", "Zhao et al., 2021", "consistency.py::test_zcr_of_linear_players_is_the_variance_of_a_step",
         penalty("zcr_discriminator", weight=20.0)),
        ("zcr_generator", "Zhao et al., 2021", "consistency.py::test_zcr_of_linear_players_is_the_variance_of_a_step",
         penalty("zcr_generator", "generator", weight=0.5)),
        ("icr", "Zhao et al., 2021", "consistency.py::test_icr_has_the_published_numbers",
         _then(on("discriminator", penalties=penalties.icr()[0]), on("generator", penalties=penalties.icr()[1]))),
        ("orthogonal", "Brock et al., 2019",
         "generator_penalties.py::test_orthogonality_is_the_sum_of_squared_products_of_different_columns",
         penalty("orthogonal", "generator", weight=1e-4)),
        ("l2", "Krogh & Hertz, 1992", "generator_penalties.py::test_l2_is_half_the_squared_norm_of_the_kernels",
         penalty("l2", weight=1e-4)),
        ("path_length", "Karras et al., 2020a",
         "generator_penalties.py::test_path_lengths_of_a_linear_generator_are_those_of_its_matrix",
         penalty("path_length", "generator", weight=2.0)),
        ("feature_matching", "Salimans et al., 2016",
         "generator_penalties.py::test_feature_matching_is_the_squared_distance_of_the_mean_features",
         penalty("feature_matching", "generator", weight=1.0)),
        ("class_balance", "Rangwani et al., 2021",
         "class_weights.py::test_the_regulariser_is_the_weighted_negative_entropy_of_the_mean_prediction",
         penalty("class_balance", "generator", weight=1.0, beta=0.99)),
    )
]  # fmt: skip

LAYERS = [
    Item("layer", name, paper, test, add)
    for name, paper, test, add in (
        ("dropout in D", "Srivastava et al., 2014",
         "test_networks.py::test_dropout_keeps_the_expectation_and_drops_its_share",
         on("discriminator", numbers={"dropout": 0.3})),
        ("dropout in G", "Srivastava et al., 2014",
         "test_networks.py::test_dropout_keeps_the_expectation_and_drops_its_share",
         on("generator", numbers={"dropout": 0.3})),
        ("noise in D", "Salimans et al., 2016", "test_latents.py::test_noise_is_normal_of_the_given_deviation",
         on("discriminator", numbers={"noise": 0.1})),
        ("noise in G", "Karras et al., 2019", "test_latents.py::test_noise_is_normal_of_the_given_deviation",
         on("generator", numbers={"noise": 0.1})),
        ("batch norm in D", "Ioffe & Szegedy, 2015",
         "test_networks.py::test_batch_norm_is_its_formula_in_training_and_evaluation",
         module(norm="batch")),
        ("layer norm in D", "Ba et al., 2016", "test_networks.py::test_layer_and_instance_norm_are_their_formulae",
         module(norm="layer")),
        ("instance norm in D", "Ulyanov et al., 2016", "test_networks.py::test_layer_and_instance_norm_are_their_formulae",
         module(norm="instance")),
        ("spectral norm in D", "Miyato et al., 2018", "test_spectral.py::test_k_calls_are_k_power_iterations_by_hand",
         net("discriminator", SpectralNorm)),
        ("minibatch standard deviation in D", "Karras et al., 2018",
         "test_stylegan2.py::test_minibatch_std_is_pytorch_s_but_for_the_order_of_the_batch", module(group=4)),
        ("packing", "Lin et al., 2018", "test_packing.py::test_a_packet_is_consecutive_examples_side_by_side",
         _then(_unlabelled, net("discriminator", lambda n: Packed(n, 2)))),
        ("capacity of D", "Karras et al., 2020b",
         "test_networks.py::test_the_article_s_networks_have_its_numbers_of_parameters", module(width=8)),
        ("projection", "Miyato & Koyama, 2018",
         "test_conditioning.py::test_projection_adds_the_product_of_label_and_features", module(conditioning="projection")),
        ("label map", "Mirza & Osindero, 2014",
         "test_conditioning.py::test_an_embedded_label_is_one_more_channel_of_the_image", module(conditioning="embedding")),
    )
]  # fmt: skip

_colour, _geometry, _corrupt = augment.ada_colour, augment.ada_geometry, augment.ada_corruptions
AUGMENTATIONS = [
    Item("augmentation", name, paper, test, fields(augment={name.replace(" ", "_"): made}))
    for name, paper, test, made in (
        ("instance_noise", "Sonderby et al., 2017", 
         "test_draws.py::test_instance_noise_is_normal_of_its_standard_deviation_and_fresh_at_each_look",
         bind(augment.instance_noise, std=0.1)),
        *(
            (name, "Zhao et al., 2020", "test_diffaugment.py::test_operations_equal_the_authors_code_with_its_draws",
             bind(getattr(augment, name), p=1.0))
            for name in ("brightness", "saturation", "contrast", "colour", "translation", "cutout")
        ),
        ("diffaugment", "Zhao et al., 2020", "test_diffaugment.py::test_the_policy_is_its_words_in_their_order",
         augment.diffaugment()["diffaugment"]),
        *(
            (f"ada_{name}", "Karras et al., 2020b", f"test_ada.py::test_{test}", bind(getattr(room, name), p=0.5))
            for room, names, test in (
                (_geometry, ("xflip", "rotate90", "integer_translation"),
                 "copying_pixels_is_numpy_s_flip_turn_and_mirrored_shift"),
                (_geometry, ("scale", "rotate", "anisotropic_scale", "fractional_translation"),
                 "a_point_goes_where_the_operation_says"),
                (_colour, ("brightness", "contrast", "luma_flip", "hue", "saturation"),
                 "colours_change_as_their_formulae_say"),
                (_corrupt, ("image_filter",), "filtering_equals_a_convolution_of_each_row_and_column"),
                (_corrupt, ("noise",), "noise_has_a_level_of_its_own_for_each_image"),
                (_corrupt, ("cutout",), "cutout_zeroes_pixels_whose_middle_lies_in_the_rectangle"),
            )
            for name in names
        ),
        ("ada", "Karras et al., 2020b", "test_ada.py::test_each_pipe_equals_the_published_code_with_its_draws",
         bind(augment.ada, p=0.5)),
        ("adaptive_pseudo", "Jiang et al., 2021", "test_mixing.py::test_a_share_p_of_the_reals_is_replaced_by_whole_fakes",
         bind(augment.adaptive_pseudo, p=0.2)),
    )
]  # fmt: skip

CONTROLLERS = [
    Item("controller", name, paper, test, add)
    for name, paper, test, add in (
        ("ADA", "Karras et al., 2020b", "test_controllers.py::test_a_number_moves_by_its_share_of_the_range",
         fields(augment={"ada": bind(augment.ada, p=0.0)}, controllers={"augment.ada.p": controllers.ada()})),
        ("APA", "Jiang et al., 2021", "test_controllers.py::test_a_number_moves_by_its_share_of_the_range",
         fields(augment={"apa": bind(augment.adaptive_pseudo, p=0.0)}, controllers={"augment.apa.p": controllers.ada()})),
        ("proportional", "-", "test_controllers.py::test_a_number_moves_by_its_share_of_the_range",
         fields(augment={"ada": bind(augment.ada, p=0.0)},
                controllers={"augment.ada.p": controllers.ada(rule=controllers.proportional)})),
        ("adaptive dropout", "after Karras et al., 2020b",
         "test_controllers.py::test_statistics_of_the_step_are_averaged_over_every_steps",
         _then(on("discriminator", numbers={"dropout": 0.0}),
               fields(controllers={"discriminator.numbers.dropout": controllers.ada(high=0.9)}))),
        ("R1 driven by AUC on V", "gan_jax", "test_controllers.py::test_a_number_driven_on_v_follows_the_log_and_resumes",
         _then(penalty("r1", gamma=1.0), fields(controllers={"discriminator.penalties.r1.gamma": controllers.drive(
             "D/train_validation_auc", 0.55, high=100.0, log=True)}))),
    )
]  # fmt: skip

PLAYS = [
    Item("play", name, paper, f"test_{test}", fields(play=bind(getattr(dynamics, name), **numbers)))
    for name, paper, test, numbers in (
        ("alternating", "Goodfellow et al., 2014", "train.py::test_alternating_moves_d_and_then_g_against_the_new_d", {}),
        ("simultaneous", "Mescheder et al., 2017", "train.py::test_simultaneous_moves_both_from_the_same_point", {}),
        ("extragradient", "Gidel et al., 2019", "play.py::test_extragradient_looks_from_one_step_ahead", {}),
        ("consensus", "Mescheder et al., 2017", "play.py::test_consensus_descends_half_the_squared_force", {"weight": 0.1}),
        ("unrolled", "Metz et al., 2017", "play.py::test_a_way_to_play_is_its_linear_map", {"rate": 1e-4, "steps": 5}),
    )
] + [
    Item("play", "d_steps", "Arjovsky et al., 2017", "test_train.py::test_discriminator_turns_are_dealt_the_examples_in_turn",
         fields(d_steps=2)),
    Item("play", "accumulate", "-", "test_play.py::test_a_batch_in_parts_is_the_batch", fields(accumulate=2)),
    Item("play", "judge_together", "-", "test_train.py::test_reals_and_fakes_have_draws_of_their_own",
         fields(judge_together=True)),
    Item("play", "compute_dtype", "Micikevicius et al., 2018",
         "test_train.py::test_a_narrow_compute_dtype_keeps_a_float32_state_and_nearly_the_same_step",
         fields(compute_dtype="bfloat16")),
]  # fmt: skip

_clipped, _limited = optimizers.clip_gradient(1.0), optimizers.clip_weights(0.01)
OPTIMIZERS = [
    Item("optimizer", name, paper, f"test_{test}", add)
    for name, paper, test, add in (
        ("adam", "Kingma & Ba, 2015", "optimizers.py::test_adam_is_kingma_and_ba_s", _both(optimizers.adam())),
        ("sgd", "Robbins & Monro, 1951", "optimizers.py::test_sgd_steps_along_the_gradient", _both(optimizers.sgd())),
        *(
            (name, paper, "more_optimizers.py::test_an_optimizer_is_its_formula", _both(getattr(optimizers, name)()))
            for name, paper in (
                ("momentum", "Polyak, 1964"), ("rmsprop", "Hinton, 2012"), ("amsgrad", "Reddi et al., 2018"),
                ("adabelief", "Zhuang et al., 2020"), ("lion", "Chen et al., 2023"),
                ("optimistic_adam", "Daskalakis et al., 2018"),
            )
        ),
        ("adamw", "Loshchilov & Hutter, 2019", "optimizers.py::test_adamw_decays_the_weights_apart_from_the_gradient",
         _both(optimizers.adamw())),
        ("optimistic_gradient", "Daskalakis et al., 2018", "more_optimizers.py::test_optimistic_descent_is_its_linear_map",
         _both(optimizers.optimistic_gradient())),
        ("lookahead", "Zhang et al., 2019", "more_optimizers.py::test_lookahead_goes_back_after_its_fast_steps",
         _both(optimizers.lookahead(optimizers.adam()))),
        ("TTUR", "Heusel et al., 2017; Zhang et al., 2019", "play.py::test_each_player_has_a_rate_of_its_own",
         _then(on("generator", optimizer=optimizers.adam(1e-4)), on("discriminator", optimizer=optimizers.adam(4e-4)))),
        ("clip_gradient", "Pascanu et al., 2013",
         "optimizers.py::test_a_clipped_gradient_has_the_norm_allowed_and_its_own_direction",
         _both(optimizers.chain(_clipped, optimizers.adam()))),
        ("clip_weights", "Arjovsky et al., 2017", "optimizers.py::test_clipped_weights_stay_within_the_limit",
         on("discriminator", optimizer=optimizers.chain(optimizers.adam(), _limited))),
        ("freeze", "Mo et al., 2020", "more_optimizers.py::test_frozen_parameters_do_not_move",
         on("discriminator", optimizer=optimizers.freeze(optimizers.adam(), "Conv_0"))),
    )
]  # fmt: skip

SCHEDULES = [
    Item("schedule", "moving average", "Yazici et al., 2019; Brock et al., 2019",
         "test_train.py::test_the_moving_average_ramps_up_to_its_decay", fields(ema_decay=0.9999)),
    Item("schedule", "cosine", "Huang et al., 2024", "test_recipe.py::test_schedules_are_their_formulae",
         _both(optimizers.adam(schedules.cosine(2e-4, 5e-5, 10_000)))),  # pyright: ignore[reportArgumentType]
    Item("schedule", "linear", "-", "test_recipe.py::test_schedules_are_their_formulae",
         fields(augment={"noise": bind(augment.instance_noise, std=schedules.linear(0.2, 0.0, 10_000))})),
    Item("schedule", "half_life", "Karras et al., 2020b", "test_schedules.py::test_a_half_life_is_the_published_rule",
         fields(ema_decay=schedules.half_life(500_000, 64, 0.05))),
    Item("schedule", "geometric", "Sinha et al., 2020",
         "test_batch_losses.py::test_a_geometric_schedule_is_a_loop_of_multiplications",
         fields(loss=bind(losses.top_k(losses.non_saturating), share=schedules.geometric(1.0, 0.99, 100, 0.5)))),
    Item("schedule", "switch", "-", "test_schedules.py::test_a_switch_changes_at_its_step",
         fields(ema_decay=schedules.switch(0.0, 0.999, 1000))),
]  # fmt: skip

LATENTS = [
    Item("latent", "normal", "-", "test_draws.py::test_latents_have_their_distribution",
         fields(latent=bind(latents.normal, dimension=100))),
    Item("latent", "uniform", "Radford et al., 2016", "test_draws.py::test_latents_have_their_distribution",
         fields(latent=bind(latents.uniform, dimension=100))),
    Item("latent", "truncated", "Brock et al., 2019",
         "test_latents.py::test_truncated_latents_are_normal_ones_within_the_threshold",
         fields(latent=bind(latents.truncated, dimension=100, threshold=1.0))),
    Item("latent", "batch_labels", "-", "test_draws.py::test_labels_of_fakes_follow_the_batch_or_are_uniform",
         fields(fake_labels=bind(latents.batch_labels))),
    Item("latent", "uniform_labels", "Brock et al., 2019",
         "test_draws.py::test_labels_of_fakes_follow_the_batch_or_are_uniform",
         fields(fake_labels=bind(latents.uniform_labels))),
]  # fmt: skip

_COUNTS = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])  # CIFAR-10-LT, ratio 100

RARE_CLASSES = [
    Item("rare classes", "class_weighted", "Cui et al., 2019",
         "test_class_weights.py::test_every_loss_is_weighted_example_by_example",
         lambda recipe: recipe.replace(loss=losses.class_weighted(recipe.loss, _COUNTS))),
    Item("rare classes", "class_balanced reals", "Mahajan et al., 2018",
         "test_imbalance.py::test_classes_are_drawn_with_their_exact_probabilities_and_examples_evenly",
         fields(sampling=bind(sampling.class_balanced, strength=1.0, classes=10))),
    Item("rare classes", "balanced_labels", "-",
         "test_imbalance.py::test_generated_labels_have_their_probabilities",
         fields(fake_labels=bind(latents.balanced_labels, counts=_COUNTS, strength=1.0))),
    Item("rare classes", "rare_noise", "-",
         "test_imbalance.py::test_rare_classes_latents_are_wider_by_their_rarity",
         fields(latent=bind(latents.rare_noise, dimension=100, counts=_COUNTS, strength=1.0))),
    Item("rare classes", "label_noise", "Rangwani et al., 2023",
         "test_class_weights.py::test_a_class_s_embedding_is_spread_by_its_effective_number",
         lambda recipe: recipe.replace(generator=with_label_noise(recipe.generator, _COUNTS))),
]  # fmt: skip

ITEMS = LOSSES + PENALTIES + LAYERS + AUGMENTATIONS + CONTROLLERS + PLAYS + OPTIMIZERS + SCHEDULES + LATENTS + RARE_CLASSES
