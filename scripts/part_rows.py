"""The rows of docs/regularizers.md: what can be added to any recipe, and with which numbers.

A row names a part of a recipe. `regularizers.py` reads the formula and the paper from the docstring
of that part, and the numbers from the recipe that the row makes. `combine.py` trains rows together,
and `tests/scripts/test_regularizers.py` fails where a recipe part has no row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np

from gan_jax import augment, controllers, latents, losses, optimizers, penalties, recipes, sampling, schedules
from gan_jax.core.bind import bind, leaves
from gan_jax.gan import dynamics
from gan_jax.gan.recipe import Recipe
from gan_jax.networks.label_noise import with_label_noise
from gan_jax.networks.packing import Packed
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.recipes import with_fields, with_module, with_network, with_optimizer, with_penalty, with_side

OWN = {"loss": "loss.", "optimizer": "discriminator.optimizer.", "play": "play.", "latent": "latent."}
"""The part of a recipe that a row of a kind sets, even where the plain recipe has the same."""

Edit = Callable[[Recipe], Recipe]


class Row(NamedTuple):
    """kind, name: of the row. part: "module:name" within gan_jax, whose docstring has the formula
    and the paper. test: the test's function. add: the recipe with the part at its default numbers.
    paper: authors and year, where that docstring does not name them."""

    kind: str
    name: str
    part: str
    test: str
    add: Edit
    paper: str = ""

    def source(self) -> Any:
        """The function or class whose docstring describes the row."""
        return resolve_name(f"gan_jax.{self.part}")

    def leaves(self, before: Recipe) -> dict[str, Any]:
        """{dotted path: default} of the numbers that the row adds or changes, and of all numbers in
        the part of the recipe that the row sets."""
        old, own = leaves(before), OWN.get(self.kind, "-")
        mine = lambda path, value: path.startswith(own) or path not in old or not np.array_equal(old[path], value)
        return {path: value for path, value in leaves(self.add(before)).items() if mine(path, value)}


def base(**fields: Any) -> Recipe:
    """The recipe that rows are added to: a small conditional DCGAN for 16 x 16 RGB images, whose D
    has class logits."""
    settings: dict[str, Any] = {"width": 16, "classes": 10, "conditioning": "auxiliary", "batch_size": 64}
    return recipes.dcgan((16, 16, 3), **settings | fields)


def several(*edits: Edit) -> Edit:
    return lambda recipe: reduce(lambda made, edit: edit(made), edits, recipe)


fields = lambda **changed: partial(with_fields, **changed)
side = lambda player="discriminator", **changed: partial(with_side, player=player, **changed)
module = lambda **changed: partial(with_module, **changed)
both = lambda optimizer: partial(with_optimizer, optimizer=optimizer)
network = lambda change: lambda recipe: with_network(recipe, "discriminator", change)


def _loss(name: str, test: str, paper: str = "") -> Row:
    return Row("loss", name, f"losses:{name}", f"test_{test}", fields(loss=losses.LOSSES[name]), paper)


_AVERAGE = "average_losses_are_a_loop_over_examples_against_the_other_side_s_mean"
LOSSES = [
    _loss("non_saturating", "values_are_the_formulae"),
    _loss("minimax", "minimax_is_a_zero_sum_game_on_fakes"),
    _loss("least_squares", "values_are_the_formulae"),
    _loss("wasserstein", "values_are_the_formulae"),
    _loss("hinge", "hinge_is_indifferent_beyond_the_margin"),
    _loss("rpgan", "rpgan_is_a_loop_over_pairs_of_one_place"),
    *(_loss(f"relativistic_average{kind}", _AVERAGE, "Jolicoeur-Martineau, 2019") for kind in ("", "_least_squares", "_hinge")),
    _loss("mmd", "mmd_is_the_double_loop"),
    _loss("dual_contrastive", "dual_contrastive_is_the_loop_over_both_sides"),
    _loss("multi_class", "multi_class_is_cross_entropy_with_one_more_class_whose_logit_is_0"),
    _loss("multi_hinge", "multi_hinge_is_a_loop_over_the_other_classes", "Kavalerov et al., 2021"),
    _loss("auxiliary_classifier", "the_auxiliary_classifier_adds_weighted_cross_entropies_to_any_loss"),
    _loss("top_k", "top_k_is_the_mean_over_the_fakes_of_highest_logits"),
    Row("loss", "label smoothing", "losses:non_saturating",
        "test_smoothing_is_cross_entropy_with_a_lower_target_on_reals_alone",
        fields(loss=bind(losses.non_saturating, smoothing=0.1)), "Salimans et al., 2016"),
    Row("loss", "blend", "losses:blend", "test_a_blend_is_the_weighted_sum_and_its_weights_are_leaves",
        fields(loss=losses.blend(losses.non_saturating, losses.hinge, non_saturating=0.5, hinge=0.5))),
]  # fmt: skip


def _penalty(name: str, test: str, player: Any = "discriminator", **numbers: Any) -> Row:
    edit = partial(with_penalty, name=name, player=player, **numbers)
    return Row("penalty", name, f"penalties:{name}", f"test_{test}", edit)


_QUADRATIC = "a_quadratic_critic_costs_four_times_the_squared_distance"
PENALTIES = [
    _penalty("r1", _QUADRATIC, gamma=10.0),
    _penalty("r2", _QUADRATIC, gamma=10.0),
    _penalty("wgan_gp", "wgan_gp_looks_uniformly_between_each_real_and_its_fake", weight=10.0),
    _penalty("dragan", "dragan_looks_around_the_reals_within_half_their_spread", weight=10.0),
    _penalty("max_gp", "the_maximum_penalty_is_the_square_of_the_steepest_slope_met", weight=10.0),
    Row("penalty", "lazy", "penalties:lazy", "test_a_lazy_penalty_comes_every_k_steps_k_times_stronger",
        side(penalties={"r1": penalties.lazy(bind(penalties.r1, gamma=10.0), 16)})),
    _penalty("lecam", "the_memory_and_the_values_follow_the_recursion", weight=0.3),
    _penalty("cr", "cr_is_the_squared_difference_that_the_shift_of_a_real_makes", weight=10.0),
    _penalty("bcr", "bcr_adds_the_fakes_by_their_share", weight=10.0),
    _penalty("zcr_discriminator", "zcr_of_linear_players_is_the_variance_of_a_step", weight=20.0),
    _penalty("zcr_generator", "zcr_of_linear_players_is_the_variance_of_a_step", "generator", weight=0.5),
    Row("penalty", "icr", "penalties:icr", "test_icr_has_the_published_numbers",
        several(side(penalties=penalties.icr()[0]), side("generator", penalties=penalties.icr()[1]))),
    _penalty("orthogonal", "orthogonality_is_the_sum_of_squared_products_of_different_columns", "generator", weight=1e-4),
    _penalty("l2", "l2_is_half_the_squared_norm_of_the_kernels", weight=1e-4),
    _penalty("path_length", "path_lengths_of_a_linear_generator_are_those_of_its_matrix", "generator", weight=2.0),
    _penalty("feature_matching", "feature_matching_is_the_squared_distance_of_the_mean_features", "generator", weight=1.0),
    _penalty("class_balance", "the_regulariser_is_the_weighted_negative_entropy_of_the_mean_prediction", "generator",
             weight=1.0, beta=0.99),
]  # fmt: skip

_NORM = "layers:Norm"
LAYERS = [
    Row("layer", name, f"networks.{part}", f"test_{test}", add, paper)
    for name, part, test, add, paper in (
        ("dropout in D", "layers:Dropout", "dropout_keeps_the_expectation_and_drops_its_share",
         side(numbers={"dropout": 0.3}), ""),
        ("dropout in G", "layers:Dropout", "dropout_keeps_the_expectation_and_drops_its_share",
         side("generator", numbers={"dropout": 0.3}), ""),
        ("noise in D", "layers:Noise", "noise_is_normal_of_the_given_deviation", side(numbers={"noise": 0.1}), ""),
        ("noise in G", "layers:Noise", "noise_is_normal_of_the_given_deviation", side("generator", numbers={"noise": 0.1}),
         "Karras et al., 2019"),
        ("batch norm in D", "layers:BatchNorm", "batch_norm_is_its_formula_in_training_and_evaluation",
         module(norm="batch"), ""),
        ("layer norm in D", _NORM, "layer_and_instance_norm_are_their_formulae", module(norm="layer"), "Ba et al., 2016"),
        ("instance norm in D", _NORM, "layer_and_instance_norm_are_their_formulae", module(norm="instance"),
         "Ulyanov et al., 2016"),
        ("spectral norm in D", "spectral:SpectralNorm", "k_calls_are_k_power_iterations_by_hand", network(SpectralNorm),
         "Miyato et al., 2018"),
        ("minibatch standard deviation in D", "minibatch:minibatch_std",
         "minibatch_std_is_pytorch_s_but_for_the_order_of_the_batch", module(group=4), ""),
        ("packing", "packing:Packed", "a_packet_is_consecutive_examples_side_by_side",
         several(recipes.without_classes, network(lambda net: Packed(net, 2))), "Lin et al., 2018"),
        ("capacity of D", "dcgan:Discriminator", "the_article_s_networks_have_its_numbers_of_parameters", module(width=8),
         "Karras et al., 2020b"),
        ("projection", "heads:discriminator_output", "projection_adds_the_product_of_label_and_features",
         module(conditioning="projection"), "Miyato & Koyama, 2018"),
        ("label map", "heads:with_label_map", "an_embedded_label_is_one_more_channel_of_the_image",
         module(conditioning="embedding"), ""),
    )
]  # fmt: skip


def _seen(name: str, part: str, test: str, made: Any) -> Row:
    return Row("augmentation", name, f"augment{part}", f"test_{test}", fields(augment={name: made}))


AUGMENTATIONS = [
    _seen("instance_noise", ":instance_noise", "instance_noise_is_normal_of_its_standard_deviation_and_fresh_at_each_look",
          bind(augment.instance_noise, std=0.1)),
    *(
        _seen(name, f":{name}", "operations_equal_the_authors_code_with_its_draws", bind(getattr(augment, name), p=1.0))
        for name in ("brightness", "saturation", "contrast", "colour", "translation", "cutout")
    ),
    _seen("diffaugment", ":diffaugment", "the_policy_is_its_words_in_their_order", augment.diffaugment()["diffaugment"]),
    *(
        _seen(f"ada_{name}", f".{file}:{name}", test, bind(getattr(getattr(augment, file), name), p=0.5))
        for file, names, test in (
            ("ada_geometry", ("xflip", "rotate90", "integer_translation"),
             "copying_pixels_is_numpy_s_flip_turn_and_mirrored_shift"),
            ("ada_geometry", ("scale", "rotate", "anisotropic_scale", "fractional_translation"),
             "a_point_goes_where_the_operation_says"),
            ("ada_colour", ("brightness", "contrast", "luma_flip", "hue", "saturation"),
             "colours_change_as_their_formulae_say"),
            ("ada_corruptions", ("image_filter",), "filtering_equals_a_convolution_of_each_row_and_column"),
            ("ada_corruptions", ("noise",), "noise_has_a_level_of_its_own_for_each_image"),
            ("ada_corruptions", ("cutout",), "cutout_zeroes_pixels_whose_middle_lies_in_the_rectangle"),
        )
        for name in names
    ),
    _seen("ada", ":ada", "each_pipe_equals_the_published_code_with_its_draws", bind(augment.ada, p=0.5)),
    _seen("adaptive_pseudo", ":adaptive_pseudo", "a_share_p_of_the_reals_is_replaced_by_whole_fakes",
          bind(augment.adaptive_pseudo, p=0.2)),
]  # fmt: skip

_SHARE = "a_number_moves_by_its_share_of_the_range"
_ADA = bind(augment.ada, p=0.0)
CONTROLLERS = [
    Row("controller", name, part, f"test_{test}", several(add, fields(controllers=made)), paper)
    for name, part, test, add, made, paper in (
        ("ADA", "controllers:ada", _SHARE, fields(augment={"ada": _ADA}), {"augment.ada.p": controllers.ada()}, ""),
        ("APA", "augment:adaptive_pseudo", _SHARE, fields(augment={"apa": bind(augment.adaptive_pseudo, p=0.0)}),
         {"augment.apa.p": controllers.ada()}, ""),
        ("proportional", "controllers:proportional", _SHARE, fields(augment={"ada": _ADA}),
         {"augment.ada.p": controllers.ada(rule=controllers.proportional)}, ""),
        ("adaptive dropout", "controllers:drive", "statistics_of_the_step_are_averaged_over_every_steps",
         side(numbers={"dropout": 0.0}), {"discriminator.numbers.dropout": controllers.ada(high=0.9)},
         "after Karras et al., 2020b"),
        ("R1 driven by AUC on V", "controllers:drive", "a_number_driven_on_v_follows_the_log_and_resumes",
         partial(with_penalty, name="r1", gamma=1.0), {"discriminator.penalties.r1.gamma": controllers.drive(
             "D/train_validation_auc", 0.55, high=100.0, log=True)}, "gan_jax"),
    )
]  # fmt: skip

PLAYS = [
    Row("play", name, f"gan.dynamics:{name}", f"test_{test}", fields(play=bind(getattr(dynamics, name), **numbers)))
    for name, test, numbers in (
        ("alternating", "alternating_moves_d_and_then_g_against_the_new_d", {}),
        ("simultaneous", "simultaneous_moves_both_from_the_same_point", {}),
        ("extragradient", "extragradient_looks_from_one_step_ahead", {}),
        ("consensus", "consensus_descends_half_the_squared_force", {"weight": 0.1}),
        ("unrolled", "a_way_to_play_is_its_linear_map", {"rate": 1e-4, "steps": 5}),
    )
] + [
    Row("play", name, "gan.recipe:Recipe", f"test_{test}", fields(**{name: value}), paper)
    for name, value, test, paper in (
        ("d_steps", 2, "discriminator_turns_are_dealt_the_examples_in_turn", "Arjovsky et al., 2017"),
        ("accumulate", 2, "a_batch_in_parts_is_the_batch", "-"),
        ("judge_together", True, "reals_and_fakes_have_draws_of_their_own", "-"),
        ("compute_dtype", "bfloat16", "a_narrow_compute_dtype_keeps_a_float32_state_and_nearly_the_same_step",
         "Micikevicius et al., 2018"),
    )
]  # fmt: skip


def _optimizer(name: str, test: str, add: Edit | None = None, part: str = "") -> Row:
    edit = add or both(getattr(optimizers, name)())
    return Row("optimizer", name, f"optimizers:{part or name}", f"test_{test}", edit)


_FORMULA = "an_optimizer_is_its_formula"
OPTIMIZERS = [
    _optimizer("adam", "adam_is_kingma_and_ba_s"),
    _optimizer("sgd", "sgd_steps_along_the_gradient"),
    *(_optimizer(name, _FORMULA) for name in ("momentum", "rmsprop", "amsgrad", "adabelief", "lion", "optimistic_adam")),
    _optimizer("adamw", "adamw_decays_the_weights_apart_from_the_gradient"),
    _optimizer("optimistic_gradient", "optimistic_descent_is_its_linear_map"),
    _optimizer("lookahead", "lookahead_goes_back_after_its_fast_steps", both(optimizers.lookahead(optimizers.adam()))),
    Row("optimizer", "TTUR", "optimizers:adam", "test_each_player_has_a_rate_of_its_own",
        several(side("generator", optimizer=optimizers.adam(1e-4)), side(optimizer=optimizers.adam(4e-4))),
        "Heusel et al., 2017; Zhang et al., 2019"),
    _optimizer("clip_gradient", "a_clipped_gradient_has_the_norm_allowed_and_its_own_direction",
               both(optimizers.chain(optimizers.clip_gradient(1.0), optimizers.adam()))),
    _optimizer("clip_weights", "clipped_weights_stay_within_the_limit",
               side(optimizer=optimizers.chain(optimizers.adam(), optimizers.clip_weights(0.01)))),
    _optimizer("freeze", "frozen_parameters_do_not_move", side(optimizer=optimizers.freeze(optimizers.adam(), "Conv_0"))),
]  # fmt: skip

_SCHEDULES = "schedules_are_their_formulae"
SCHEDULES = [
    Row("schedule", name, part, f"test_{test}", add, paper)
    for name, part, test, add, paper in (
        ("moving average", "gan.recipe:Recipe", "the_moving_average_ramps_up_to_its_decay", fields(ema_decay=0.9999),
         "Yazici et al., 2019; Brock et al., 2019"),
        ("cosine", "schedules:cosine", _SCHEDULES, both(optimizers.adam(schedules.cosine(2e-4, 5e-5, 10_000))), ""),  # pyright: ignore[reportArgumentType]
        ("linear", "schedules:linear", _SCHEDULES,
         fields(augment={"noise": bind(augment.instance_noise, std=schedules.linear(0.2, 0.0, 10_000))}), ""),
        ("half_life", "schedules:half_life", "a_half_life_is_the_published_rule",
         fields(ema_decay=schedules.half_life(500_000, 64, 0.05)), ""),
        ("geometric", "schedules:geometric", "a_geometric_schedule_is_a_loop_of_multiplications",
         fields(loss=bind(losses.top_k(losses.non_saturating), share=schedules.geometric(1.0, 0.99, 100, 0.5))), ""),
        ("switch", "schedules:switch", "a_switch_changes_at_its_step",
         fields(ema_decay=schedules.switch(0.0, 0.999, 1000)), ""),
    )
]  # fmt: skip

LATENTS = [
    *(
        Row("latent", name, f"latents:{name}", f"test_{test}",
            fields(latent=bind(getattr(latents, name), dimension=100, **numbers)))
        for name, test, numbers in (
            ("normal", "latents_have_their_distribution", {}),
            ("uniform", "latents_have_their_distribution", {}),
            ("truncated", "truncated_latents_are_normal_ones_within_the_threshold", {"threshold": 1.0}),
        )
    ),
    *(
        Row("latent", name, f"latents:{name}", "test_labels_of_fakes_follow_the_batch_or_are_uniform",
            fields(fake_labels=bind(getattr(latents, name))))
        for name in ("batch_labels", "uniform_labels")
    ),
]  # fmt: skip

_COUNTS = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])  # CIFAR-10-LT, ratio 100
RARE_CLASSES = [
    Row("rare classes", name, part, f"test_{test}", add, paper)
    for name, part, test, add, paper in (
        ("class_weighted", "losses:class_weighted", "every_loss_is_weighted_example_by_example",
         lambda recipe: recipe.replace(loss=losses.class_weighted(recipe.loss, _COUNTS)), "Cui et al., 2019"),
        ("class_balanced", "sampling:class_balanced",
         "classes_are_drawn_with_their_exact_probabilities_and_examples_evenly",
         fields(sampling=bind(sampling.class_balanced, strength=1.0, classes=10)), ""),
        ("balanced_labels", "latents:balanced_labels", "generated_labels_have_their_probabilities",
         fields(fake_labels=bind(latents.balanced_labels, counts=_COUNTS, strength=1.0)), ""),
        ("rare_noise", "latents:rare_noise", "rare_classes_latents_are_wider_by_their_rarity",
         fields(latent=bind(latents.rare_noise, dimension=100, counts=_COUNTS, strength=1.0)), ""),
        ("label_noise", "networks.label_noise:NoisyLabels", "a_class_s_embedding_is_spread_by_its_effective_number",
         lambda recipe: recipe.replace(generator=with_label_noise(recipe.generator, _COUNTS)), ""),
    )
]  # fmt: skip

ROWS = LOSSES + PENALTIES + LAYERS + AUGMENTATIONS + CONTROLLERS + PLAYS + OPTIMIZERS + SCHEDULES + LATENTS + RARE_CLASSES
