"""Does the article's GAN overfit?

    python experiments/quickstart.py  # digits, a minute or two on two CPU cores
    python experiments/quickstart.py --data cifar10 --steps 20000 --r1 0.1 --out runs/cifar

Trains the article's DCGAN (or its loss, penalty or play of your choice) on part of the data, judges
it on the part held out, and ends with a grid of samples, curves of both losses and of D on
training, held-out and generated images, and one line that says whether D has begun to overfit.

Cost: 88 s with the default on two CPU cores (jax 0.10.2), installation from a warm cache included.

Finding (digits, seed 0, one run): recognisable digits, and D begins to overfit at about step 3,900:
it tells 229 training from 229 held-out images with AUC .603, where chance is .500 +- .081
(3 standard errors).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from gan_jax.cli.options import DataOptions, RunOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few, Positive, Share, Weight
from gan_jax.core.errors import UserError, say
from gan_jax.training import distributed

STEPS = 4000  # when --steps is left out


@dataclass
class Options(RunOptions):
    """Train a GAN, and see whether its discriminator overfits."""

    steps: Count | None = None
    """Training steps, updates of the generator; 4,000 when left out, and with --resume those of the
    run."""
    loss: str = "non_saturating"
    """non_saturating, minimax, least_squares, wasserstein, hinge, rpgan, mmd or another of
    `gan.losses.LOSSES`; those of class logits want --conditional --conditioning auxiliary
    (auxiliary_classifier) or multi_class (multi_class, multi_hinge)."""
    play: Literal["alternating", "simultaneous", "extragradient", "consensus", "unrolled"] = "alternating"
    """Each player in turn, both gradients at the same point, both from one step ahead, both along a
    penalised gradient, or G against the D of some steps later."""
    consensus_weight: Weight = 10.0
    """Of the squared gradients (--play consensus)."""
    unrolled_steps: Count = 5
    """Steps of D that G looks ahead, at a rate of .001 (--play unrolled)."""
    d_steps: Count = 1
    """Discriminator turns per step (alternating play)."""
    batch_size: Count = 64
    """Images per discriminator turn, over all devices."""
    width: Few = 64
    """Channels of the widest image layers; deeper layers have multiples."""
    conditional: bool = False
    """Both networks see the labels."""
    conditioning: Literal["projection", "auxiliary", "multi_class", "embedding"] | None = None
    """How D knows of them: a product with its features, class logits beside its own, class logits
    in place of it, or with its input; projection for images and embedding for points when left out
    (--conditional)."""
    learning_rate: Weight = 2e-4
    """Of the generator, and of the discriminator unless it has its own."""
    d_learning_rate: Weight | None = None
    """Of the discriminator."""
    r1: Weight | None = None
    """Gradient penalty gamma / 2 |grad D|^2 on reals."""
    r2: Weight | None = None
    """The same on fakes."""
    wgan_gp: Weight | None = None
    """Weight of the gradient penalty between reals and fakes (10 in its paper; --loss
    wasserstein)."""
    dragan: Weight | None = None
    """Weight of the gradient penalty around reals."""
    lazy: Count = 1
    """Take the penalties every N steps, N times as strong."""
    dropout: Share | None = None
    """Share of the discriminator's hidden units dropped."""
    smoothing: Share | None = None
    """One-sided label smoothing: the target of reals is 1 minus this."""
    instance_noise: Weight | None = None
    """Std of the noise on what D sees, falling to 0 over the run."""
    weight_decay: Weight | None = None
    """Decoupled weight decay of the discriminator."""
    discriminator_norm: Literal["batch", "layer", "instance"] | None = None
    """Normalisation in the discriminator."""
    clip_weights: Positive | None = None
    """Keep D's parameters within this of zero (--loss wasserstein)."""
    clip_gradient: Positive | None = None
    """Scale D's gradient down to this norm."""
    ema_decay: Share = 0.999
    """Of the generator's moving average, which makes the samples."""
    warm_start: Path | None = None
    """Begin with the networks of the run in this folder."""
    freeze: tuple[str, ...] = ()
    """Layers of D that do not move (FreezeD): Conv_0, Conv_1, ...; of use with --warm-start."""
    accumulate: Count = 1
    """See each batch in so many parts, one after the other, to save memory."""
    report: bool = True
    """End in the overfitting report (on V; scripts/report.py --final opens S)."""
    log_every: Count = 100
    """Steps between logs."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints, a multiple of --log-every; the first from 100 on when left out."""
    sample_every: Count | None = None
    """Steps between pictures of samples, a multiple of --log-every; the first from 500 on when left
    out."""


def recipe_of(options: Options, data):
    """The recipe that the flags describe."""
    import gan_jax as gan

    settings: dict[str, Any] = {} if options.conditioning is None else {"conditioning": options.conditioning}
    if settings and not options.conditional:
        raise UserError("--conditioning says how D knows of labels: add --conditional")
    if options.discriminator_norm is not None:
        if len(data.image_shape) == 1:
            raise UserError(f"--discriminator-norm is of images, and {data.name} has rows of numbers: leave it out")
        settings["discriminator_norm"] = options.discriminator_norm
    loss = gan.recipes.loss(options.loss)
    if options.smoothing is not None:
        if "smoothing" not in (loss.function.__kwdefaults__ or {}):
            raise UserError(f"--smoothing: the {options.loss} loss has no labels to smooth; leave it out")
        loss = loss.replace(smoothing=options.smoothing)
    recipe = gan.recipes.for_data(
        data.image_shape, width=options.width, loss=loss, classes=data.classes if options.conditional else 0,
        batch_size=options.batch_size, d_steps=options.d_steps, play=play_of(options),
        ema_decay=options.ema_decay, accumulate=options.accumulate, **settings,
    )  # fmt: skip
    strengths = {"r1": ("gamma", options.r1), "r2": ("gamma", options.r2)}
    strengths |= {"wgan_gp": ("weight", options.wgan_gp), "dragan": ("weight", options.dragan)}
    penalties = {
        name: gan.lazy(gan.bind(getattr(gan.penalties, name), **{number: value}), options.lazy)
        for name, (number, value) in strengths.items()
        if value is not None
    }
    discriminator = recipe.discriminator.replace(
        optimizer=optimizer_of(options),
        penalties=penalties,
        numbers={} if options.dropout is None else {"dropout": options.dropout},
    )
    generator = recipe.generator.replace(optimizer=gan.optimizers.adam(options.learning_rate))
    augment = {}
    if options.instance_noise is not None:
        std = gan.schedules.linear(options.instance_noise, 0.0, options.steps or STEPS)
        augment = {"instance_noise": gan.bind(gan.augment.instance_noise, std=std)}
    return recipe.replace(generator=generator, discriminator=discriminator, augment=augment)


def play_of(options: Options):
    """The way to play, with its numbers."""
    from gan_jax import bind
    from gan_jax.gan import dynamics

    numbers = {"consensus": {"weight": options.consensus_weight}, "unrolled": {"rate": 1e-3, "steps": options.unrolled_steps}}
    return bind(getattr(dynamics, options.play), **numbers.get(options.play, {}))


def optimizer_of(options: Options):
    """The discriminator's optimizer: clipped gradient, Adam (with weight decay), clipped
    weights."""
    from gan_jax import optimizers

    rate = options.learning_rate if options.d_learning_rate is None else options.d_learning_rate
    adam = optimizers.adam(rate)
    if options.weight_decay is not None:
        adam = optimizers.adamw(rate, weight_decay=options.weight_decay)
    if options.freeze:
        adam = optimizers.freeze(adam, *options.freeze)
    parts = [] if options.clip_gradient is None else [optimizers.clip_gradient(options.clip_gradient)]
    parts.append(adam)
    parts += [] if options.clip_weights is None else [optimizers.clip_weights(options.clip_weights)]
    return parts[0] if len(parts) == 1 else optimizers.chain(*parts)


def resume(options: Options, devices: dict[str, Any]):
    """The run in the folder, trained on as it was begun, with its own data; and its steps. Flags
    that say something else are set aside, and named."""
    import gan_jax as gan
    from gan_jax.training.folder import RunFolder
    from gan_jax.training.run import load_again
    from gan_jax.training.serialization import differences, to_json

    record = distributed.broadcast(RunFolder(options.out).read)
    data, source = load_again(record, options.out), record["source"] | {"data": record["source"]["name"]}
    as_flags = lambda options: set(differences(to_json(recipe_of(options, data)), record["recipe"]))
    ours = replace(options, steps=options.steps or record["steps"])
    aside = sorted(as_flags(ours) - as_flags(Options(steps=ours.steps)))
    for flag in fields(DataOptions):
        given, own = getattr(options, flag.name), source.get(flag.name)
        if flag.name not in ("out", "resume", "overwrite") and given != flag.default and str(given) != str(own):
            aside.append(f"{flag.name}: {given}, not {'absent' if own is None else own}")
    if aside and distributed.is_primary():
        say(f"resuming {options.out} as it was begun; set aside: {'; '.join(aside)}")
    return gan.resume(options.out, steps=options.steps, data=data, **devices), ours.steps


def main(options: Options) -> int:
    options.prepare()
    import gan_jax as gan
    from gan_jax.report.expectation import expectation, too_few
    from gan_jax.training.folder import RunFolder

    devices = {"devices": options.devices, "parallel": options.parallel, "shard": options.shard}
    if options.resume and distributed.broadcast(lambda: RunFolder(options.out).exists):
        result, steps = resume(options, devices)
    else:
        data, steps = options.load(), STEPS if options.steps is None else options.steps
        recipe = recipe_of(replace(options, steps=steps), data)
        if options.report and distributed.is_primary():
            say(expectation(data))
        result = gan.fit(
            recipe, data, steps=steps, seed=options.seed, out=options.out,
            overwrite=options.overwrite, log_every=options.log_every, checkpoint_every=options.checkpoint_every,
            sample_every=options.sample_every, warm_start=options.warm_start, **devices,
        )  # fmt: skip
    if not distributed.is_primary():
        return result.exit_code
    print(f"samples: {options.out}/samples    curves: {options.out}/curves.png")
    if result.stopped:
        print(f"stopped at step {result.step} of {steps}: {result.stopped}; --resume continues from there")
    print(result.verdict())
    if options.report and not result.stopped and (why := too_few(result.data)):
        print(why)
    elif options.report and not result.stopped:
        report = gan.overfitting_report(result)
        print(f"report: {report.save(options.out)}\n{report.verdict_line()}")
    return result.exit_code


if __name__ == "__main__":
    run(main)
