"""Places snippets and class texts in a plane: t-SNE or UMAP.

t-SNE: van der Maaten and Hinton, JMLR 2008. UMAP: McInnes et al., arXiv 1802.03426.
Both keep neighbours close. Distances between groups, and the sizes of groups, mean
nothing.
"""

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.figures.encode import StageFeatures
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import status

METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
PERPLEXITY, NEIGHBOURS = 30, 15  # the usual values of t-SNE and of UMAP
MIN_POINTS = 5  # fewer have no neighbourhoods


def check_method(method: str) -> None:
    """Raises InputError where a method's package isn't installed."""
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError(
            "--embedding umap needs the package umap-learn; install it with "
            f"{flags.install('umap')} (the extra wsvad-jax[umap]), or pass tsne"
        )


def embed(
    features: StageFeatures, method: str, seed: int = 0
) -> tuple[Float[np.ndarray, "S 2"], Float[np.ndarray, "C 2"] | None, dict[str, Any]]:
    """Places snippets, and class texts with them, in one plane.

    Directions count, not lengths, as in CLIP. Images and texts of CLIP differ by a
    constant direction, so snippets and texts are each centred on their own mean first.

    Args:
      features: snippets, and class texts of the same width.
      method: a key of METHODS.
      seed: seed of the method.

    Returns:
      Positions of the snippets, those of the texts, and the settings of the method.

    Raises:
      InputError: too few snippets, or snippets that are all the same.
    """
    check_method(method)
    S = len(features.snippets)
    if S < MIN_POINTS:
        raise InputError(f"{S} snippets are too few for a picture of neighbours")

    # A model that has learnt nothing may give all snippets one feature.
    spread = np.ptp(features.snippets, axis=0).max()
    if not spread > 1e-6 * max(float(np.abs(features.snippets).max()), 1e-6):
        raise InputError("all snippets have the same features")

    groups = [_centred(features.snippets)]
    if features.texts is not None:
        groups.append(_centred(features.texts))
    x = np.concatenate(groups)

    status(f"{METHODS[method]} of {S} snippets, {features.title} …")
    points, settings = _umap(x, seed) if method == "umap" else _tsne(x, seed)
    texts = None if features.texts is None else points[S:]
    return points[:S], texts, {"method": METHODS[method], "seed": seed, **settings}


def _centred(x: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K D"]:
    """Returns rows of length 1, less their mean, of length 1 again."""
    x = _unit(x)
    # A single text has no mean to differ from.
    return _unit(x - x.mean(0, keepdims=True)) if len(x) > 1 else x


def _unit(x: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K D"]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _tsne(x: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    import sklearn
    from sklearn.manifold import TSNE

    # Between vectors of length 1, squared distances are twice the cosine distances.
    perplexity = min(PERPLEXITY, (len(x) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    points = model.fit_transform(x.astype(np.float64))
    settings = {
        "perplexity": round(perplexity, 2),
        "kl_divergence": round(float(model.kl_divergence_), 4),
        "scikit-learn": sklearn.__version__,
    }
    return points, settings


def _umap(x: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    import umap  # pyright: ignore[reportMissingImports]

    # A fixed seed needs one thread.
    neighbours = min(NEIGHBOURS, len(x) - 1)
    model = umap.UMAP(
        n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1
    )
    points = model.fit_transform(x)
    return points, {"n_neighbors": neighbours, "umap-learn": umap.__version__}
