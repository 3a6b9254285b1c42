"""What images are compared by: feature extractors behind one interface (`Extractor`)."""

from gan_jax.metrics.features.classifier import classifier, classifier_logits
from gan_jax.metrics.features.extractor import Extractor, check_images, from_function
from gan_jax.metrics.features.fixed import pixels, random
from gan_jax.metrics.features.inception import inception, inception_logits

__all__ = ["Extractor", "check_images", "classifier", "classifier_logits", "from_function"]
__all__ += ["inception", "inception_logits", "pixels", "random"]
