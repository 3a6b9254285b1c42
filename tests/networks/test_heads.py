"""Known answers: losses on class logits, the ways in which a discriminator knows of labels, and
every loss in a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.losses import LOSSES, auxiliary_classifier, hinge, multi_class, multi_hinge
from gan_jax.networks import dcgan, mlp
from gan_jax.training.serialization import from_json, to_json

RNG = np.random.default_rng(0)
OF_REALS, OF_FAKES = 2 * RNG.normal(size=(2, 4, 3))
LABELS, FAKE_LABELS = np.array([0, 2, 1, 2]), np.array([1, 1, 0, 2])
LOGITS = RNG.normal(size=(2, 4))


def terms(loss, of_reals=OF_REALS, of_fakes=OF_FAKES, labels=LABELS, fake_labels=FAKE_LABELS, **numbers):
    real, fake = (
        gan.DiscriminatorOutput(jnp.asarray(x), classes=None if c is None else jnp.asarray(c))
        for x, c in zip(LOGITS, (of_reals, of_fakes), strict=True)
    )
    batch = gan.Batch(jnp.zeros((4, 1)), jnp.arange(4), labels=labels, fake_labels=fake_labels)
    return gan.bind(loss, **numbers)(real, fake, batch)


def cross_entropy(logits, labels):
    return -log_softmax(logits, 1)[np.arange(len(labels)), labels]


# ---- losses on class logits --------------------------------------------------------------------


def test_the_auxiliary_classifier_adds_weighted_cross_entropies_to_any_loss(x64):
    found = terms(auxiliary_classifier(hinge, weight_real=0.5, weight_fake=0.25, weight_generator=2.0))
    plain = terms(hinge)
    np.testing.assert_allclose(found.real - plain.real, 0.5 * cross_entropy(OF_REALS, LABELS), rtol=1e-10)
    np.testing.assert_allclose(found.fake - plain.fake, 0.25 * cross_entropy(OF_FAKES, FAKE_LABELS), rtol=1e-10)
    np.testing.assert_allclose(found.generator - plain.generator, 2 * cross_entropy(OF_FAKES, FAKE_LABELS), rtol=1e-10)


def test_an_auxiliary_classifier_of_no_weight_is_the_loss(x64):
    for got, plain in zip(terms(auxiliary_classifier(hinge, 0.0, 0.0, 0.0)), terms(hinge), strict=True):
        np.testing.assert_array_equal(got, plain)


def test_multi_class_is_cross_entropy_with_one_more_class_whose_logit_is_0(x64):
    more = lambda logits: np.concatenate([logits, np.zeros((4, 1))], 1)
    found = terms(multi_class)
    np.testing.assert_allclose(found.real, cross_entropy(more(OF_REALS), LABELS), rtol=1e-10)
    np.testing.assert_allclose(found.fake, cross_entropy(more(OF_FAKES), np.full(4, 3)), rtol=1e-10)
    np.testing.assert_allclose(found.generator, cross_entropy(more(OF_FAKES), FAKE_LABELS), rtol=1e-10)


def test_multi_class_of_one_class_is_the_non_saturating_loss(x64):
    alone = LOGITS[0][:, None], LOGITS[1][:, None], np.zeros(4, int), np.zeros(4, int)
    for got, expected in zip(terms(multi_class, *alone), terms(gan.losses.non_saturating), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_multi_hinge_is_a_loop_over_the_other_classes(x64):
    def cost(logits, label):
        scores = [*logits, 0.0]
        return max(0.0, 1 + max(s for k, s in enumerate(scores) if k != label) - scores[label])

    found = terms(multi_hinge)
    np.testing.assert_allclose(found.real, [cost(*x) for x in zip(OF_REALS, LABELS, strict=True)], rtol=1e-12)
    np.testing.assert_allclose(found.fake, [cost(x, 3) for x in OF_FAKES], rtol=1e-12)
    np.testing.assert_allclose(found.generator, [cost(*x) for x in zip(OF_FAKES, FAKE_LABELS, strict=True)], rtol=1e-12)


@pytest.mark.parametrize("loss", [multi_class, multi_hinge, LOSSES["auxiliary_classifier"]])
def test_g_raises_the_class_logit_of_the_label_that_it_was_given(x64, loss):
    near = 0.1 * OF_FAKES
    gradient = jax.grad(lambda logits: terms(loss, of_fakes=logits).generator.mean())(jnp.asarray(near))
    own = np.eye(3, dtype=bool)[FAKE_LABELS]
    assert (gradient[own] < 0).all() and (gradient[~own] >= 0).all() and (gradient[~own] > 0).any()


@pytest.mark.parametrize("loss", [multi_class, multi_hinge, LOSSES["auxiliary_classifier"]])
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"of_reals": None}, "needs class logits.*conditioning="),
        ({"of_fakes": None}, "needs class logits.*conditioning="),
        ({"labels": None}, "needs labels.*give the recipe classes"),
        ({"fake_labels": None}, "needs labels.*give the recipe classes"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_what_a_loss_on_classes_lacks_is_said(loss, missing, message):
    with pytest.raises(gan.UserError, match=message):
        terms(loss, **missing)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_terms_of_every_loss_have_the_dtype_of_the_logits(x64, dtype):
    output = gan.DiscriminatorOutput(jnp.ones(4, dtype), jnp.ones((4, 3), dtype), jnp.ones((4, 2), dtype))
    batch = gan.Batch(jnp.zeros((4, 1)), jnp.arange(4), LABELS, jnp.ones(4, jnp.float32), fake_labels=LABELS)
    found = jax.eval_shape(lambda output: {name: loss(output, output, batch) for name, loss in LOSSES.items()}, output)
    assert {(x.shape, x.dtype) for x in jax.tree.leaves(found)} == {((4,), jnp.dtype(dtype))}


# ---- discriminators ----------------------------------------------------------------------------

IMAGES = RNG.uniform(-1, 1, size=(4, 8, 8, 1))
ROWS = RNG.normal(size=(4, 5))
NETWORKS = {
    "dcgan": (lambda **fields: dcgan.Discriminator(width=2, **fields), IMAGES),
    "mlp": (lambda **fields: mlp.Discriminator(width=4, depth=1, **fields), ROWS),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def applied(network, labels=LABELS, **fields):
    """(parameters at random, D's output)."""
    make, inputs = NETWORKS[network]
    net, inputs = Net(make(**fields)), jnp.asarray(inputs)
    shapes = jax.eval_shape(net.init, jax.random.key(0), inputs, labels, {})[0]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape)), shapes)
    return params, net.apply(params, {}, inputs, labels, EVALUATION, {})[0]


@every_network
def test_auxiliary_class_logits_are_linear_in_the_features_and_blind_to_labels(x64, network):
    params, output = applied(network, classes=3, conditioning="auxiliary")
    head = params["class_logits"]
    np.testing.assert_allclose(output.classes, output.features @ head["kernel"] + head.get("bias", 0), rtol=1e-10)
    _, other = applied(network, (LABELS + 1) % 3, classes=3, conditioning="auxiliary")
    np.testing.assert_array_equal(other.logits, output.logits)
    np.testing.assert_array_equal(other.classes, output.classes)


@every_network
def test_a_multi_class_logit_is_that_of_real_against_fake(x64, network):
    """sigmoid(logit) = Z / (1 + Z); D's loss on fakes is softplus of the logit."""
    params, output = applied(network, classes=3, conditioning="multi_class")
    np.testing.assert_allclose(output.logits, logsumexp(output.classes, 1), rtol=1e-12)
    assert [name for name in params if name.startswith("Dense")] == (["Dense_0"] if network == "mlp" else [])
    batch = gan.Batch(jnp.zeros(4), jnp.arange(4), labels=LABELS, fake_labels=LABELS)
    np.testing.assert_allclose(multi_class(output, output, batch).fake, np.logaddexp(0, output.logits), rtol=1e-12)


@every_network
def test_projection_adds_the_product_of_label_and_features(x64, network):
    params, output = applied(network, classes=3, conditioning="projection")
    last = params["Dense_0" if network == "dcgan" else "Dense_1"]
    plain = (output.features @ last["kernel"])[:, 0] + last.get("bias", 0)
    product = (output.features * params["label"]["embedding"][LABELS]).sum(1)
    np.testing.assert_allclose(output.logits, plain + product, rtol=1e-10)
    assert output.classes is None


def test_an_embedded_label_is_one_more_channel_of_the_image(x64):
    params, output = applied("dcgan", classes=3, conditioning="embedding")
    assert params["label"]["embedding"].shape == (3, 64) and params["Conv_0"]["kernel"].shape == (5, 5, 2, 2)
    maps = params["label"]["embedding"][LABELS].reshape(4, 8, 8, 1)
    rest = {name: value for name, value in params.items() if name != "label"}
    joined = jnp.concatenate([IMAGES, maps], -1)
    bare = Net(dcgan.Discriminator(width=2)).apply(rest, {}, joined, None, EVALUATION, {})[0]
    np.testing.assert_allclose(output.logits, bare.logits, rtol=1e-12)


@every_network
def test_the_default_conditioning_is_as_before(x64, network):
    default = {"dcgan": "projection", "mlp": "embedding"}[network]
    for a, b in zip(*(jax.tree.leaves(applied(network, classes=3, **f)) for f in ({}, {"conditioning": default})), strict=True):
        np.testing.assert_array_equal(a, b)


@every_network
def test_a_representation_is_judged_in_place_of_the_features(x64, network):
    params, output = applied(network, None, representation=16)
    assert output.features.shape == (4, 16)
    np.testing.assert_allclose(output.logits, output.features.sum(1) / 4, rtol=1e-12)
    _, of_one = applied(network, None, representation=1)
    _, plain = applied(network, None)
    np.testing.assert_array_equal(of_one.logits, plain.logits)


@every_network
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conditioning": "biggan"}, "unknown conditioning 'biggan'.*'auxiliary'"),
        ({"conditioning": "projection", "representation": 2}, "does not go with conditioning 'projection'"),
    ],
)
def test_a_conditioning_that_cannot_be_is_refused(network, fields, message):
    with pytest.raises(gan.UserError, match=message):
        applied(network, classes=3, **fields)


# ---- in a step ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_goes_through_a_step_and_an_evaluation(loss):
    """Traced, not run: shapes, dtypes, and no Python branch on a number."""
    conditioning = {"auxiliary_classifier": "auxiliary", "multi_class": "multi_class", "multi_hinge": "multi_class"}
    recipe = gan.recipes.dcgan(
        (8, 8, 1), width=2, latent_dim=3, classes=3, conditioning=conditioning.get(loss, "embedding"), loss=loss, batch_size=4
    )

    def run(recipe, key):
        state = gan.init(recipe, key)
        batch = gan.Batch(jnp.asarray(IMAGES, jnp.float32), jnp.arange(4), jnp.asarray(LABELS), weights=jnp.ones(4))
        state, metrics = gan.train_step(recipe, state, batch)
        row = gan.GAN.evaluate(recipe, state, (batch.images, batch.labels), (batch.images, batch.labels))
        return metrics | row

    found = jax.eval_shape(run, recipe, jax.random.key(0))
    assert all(x.shape == () and x.dtype == jnp.float32 for x in found.values())


def test_a_recipe_of_a_loss_around_a_loss_is_recorded_and_read():
    loss = gan.losses.top_k(auxiliary_classifier(gan.bind(gan.losses.mmd, kernel="rbf", on="features")), share=0.25)
    again = from_json(to_json(loss))
    assert jax.tree.structure(again) == jax.tree.structure(loss) and to_json(again) == to_json(loss)
