"""Opens and checks what a recipe names: dataset, model, prompts and devices.

Training and scoring both begin here, so that they agree about the length of a window,
the text tower and the classes.
"""

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment import base_classes, quick_look, validation, zero_shot
from wsvad_jax.parallel import precision
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import cache_dir

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from ml_collections import ConfigDict

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.data.tfds_builder import Dataset
    from wsvad_jax.models.spec import ModelSpec

MAX_DEFAULT_WINDOW = 256  # snippets per window, if the recipe sets no length


@dataclasses.dataclass(frozen=True)
class ScoringModel:
    """Model, prompts and mesh of a recipe: all that scoring needs."""

    config: "ConfigDict"
    spec: "ModelSpec"
    model: Any  # its linen module
    text: "TextInputs | None"  # None: the model reads no prompts
    text_tower_id: (
        dict[str, Any] | None
    )  # whose text tower: clip (a name), hash, settings
    T: int  # snippets per window
    width: int  # of the features
    mesh: "Mesh"

    @property
    def protocol_config(self) -> "ConfigDict":
        """Epochs, batch, optimisers and selection of the selected protocol."""
        return self.config[self.config.protocol]

    @property
    def remove_position_bias(self) -> bool:
        """Whether positional bias within a window is removed from scores."""
        windows = self.config.eval.mode == "windows"
        if not (windows and self.spec.is_trained):
            return False
        return self.protocol_config.remove_position_bias


@dataclasses.dataclass(frozen=True)
class Experiment(ScoringModel):
    """A ScoringModel with its dataset, ready to train or to score."""

    dataset: "Dataset"
    base_classes: tuple[str, ...] = ()  # see `base_classes`; () all
    # The experiment with all classes, of one that trains on base classes alone.
    whole: "Experiment | None" = None
    # Indices of training videos that are neither trained on nor used to select weights.
    left_out: frozenset[int] = frozenset()

    @property
    def with_all_classes(self) -> "Experiment":
        """The experiment that scores, which also reads the words of novel classes."""
        return self.whole or self

    @property
    def clip_note(self) -> str | None:
        """The line about what the CLIP models were trained on, see `training_notes`."""
        from wsvad_jax.data import feature_protocols

        return feature_protocols.clip_note(self.dataset.protocol, self.text_tower_id)


def open_experiment(
    config: "ConfigDict", data_dir: "str | os.PathLike | None" = None
) -> Experiment:
    """Opens what `config` names; makes the demo dataset where it is missing.

    Raises:
      InputError: an unknown model, protocol or dataset, a config key that the model
        doesn't have, or sizes that don't fit each other.
    """
    from wsvad_jax.clip import training_notes
    from wsvad_jax.data.tfds_builder import open_dataset
    from wsvad_jax.datasets import registry
    from wsvad_jax.parallel.mesh import make_mesh

    spec = get_model_spec(config)
    if spec.is_trained:
        validation.check_protocol(config)
    else:
        zero_shot.check_recipe(config)
    model = build_model(config)
    dataset = open_dataset(registry.resolve(config.data.name, data_dir))

    # Windows and prompts depend on the dataset's videos and classes.
    T = window_length(config, spec, model, dataset)
    text, tower = open_text(config, dataset) if spec.reads_text else (None, None)
    if not spec.is_trained and text is not None and tower is not None:
        zero_shot.check_features(dataset, text, tower)

    experiment = Experiment(
        config,
        spec,
        model,
        text,
        tower,
        T,
        dataset.width,
        make_mesh(dict(config.mesh)),
        dataset,
        base_classes.read_base_classes(
            config.data.get(base_classes.NAME, ""), dataset.card
        ),
    )

    training_notes.show(experiment.clip_note, _clip_hint(experiment))
    return experiment


def _clip_hint(experiment: Experiment) -> str:
    if experiment.config.get("clip") == "auto" and not experiment.dataset.card.clip:
        return (
            "; the dataset's card names no CLIP model (--config.clip=NAME takes a real "
            "one)"
        )
    return ""


def get_model_spec(config: "ConfigDict") -> "ModelSpec":
    """Returns the spec of the recipe's model.

    Raises:
      InputError: an unknown model, or a value outside its range.
    """
    from wsvad_jax.models import MODELS

    # Both the model and its values are checked before anything is opened.
    if config.model_name not in MODELS:
        raise InputError(
            f"model_name is {config.model_name!r}; the models are {', '.join(MODELS)}"
        )
    validation.check(config)
    return MODELS[config.model_name]


def build_model(config: "ConfigDict") -> Any:
    """Returns the recipe's linen module; `config.model` holds its fields.

    Raises:
      InputError: the model has no such field, or a value is outside its range.
    """
    from wsvad_jax.models import cross_pseudo

    spec: Any = get_model_spec(config)

    # An unknown field would only fail in the constructor, with a traceback.
    fields = {f.name for f in dataclasses.fields(spec.Model)} - {"parent", "name"}
    if unknown := sorted(set(config.model) - fields):
        raise InputError(
            f"config.model.{unknown[0]}: {config.model_name} has no such field; its "
            f"fields are {', '.join(sorted(fields))}"
        )

    ranges = {"dtype": precision.DTYPES, **spec.field_ranges}
    validation.check(config.model, ranges, "config.model.")

    # The recipe may leave the precision to the device; the model states one.
    values = dict(config.model)
    if "dtype" in values:
        values["dtype"] = precision.resolve_dtype(values["dtype"])
    model = spec.Model(**values)
    cross_pseudo.check(dict(config.get("loss", {})), model)
    return model


def window_length(
    config: "ConfigDict", spec: "ModelSpec", model: Any, dataset: "Dataset"
) -> int:
    """Returns T: the recipe's, or that of the longest training video.

    Raises:
      InputError: the model can't have such windows, or can't score whole videos.
    """
    window, T = spec.window(model), config.data.length

    # The longest training video, up to a limit, and rounded up to whole attention windows.
    if not T:
        longest = max(e.num_snippets for e in dataset.split("train").entries)
        quick = config.protocol == validation.QUICK
        most = quick_look.MAX_WINDOW if quick else MAX_DEFAULT_WINDOW
        T = -(-min(longest, most) // window) * window

    # Attention windows must tile a window of snippets.
    if T % window:
        raise InputError(
            f"config.model.{spec.window_field} {window} doesn't divide the {T} snippets of a "
            "window (config.data.length); choose a length that is a multiple of it"
        )
    if spec.window_field is not None and config.eval.mode == "whole":
        raise InputError(
            f"config.eval.mode is 'whole', but {config.model_name} learns positions in "
            f"windows of {T} snippets and knows no others; leave it at windows"
        )
    return T


def open_text(
    config: "ConfigDict", dataset: "Dataset"
) -> tuple["TextInputs", dict[str, Any]]:
    """Returns the text inputs of the card's prompts, and the text tower's identity.

    `config.clip` is a hub name, a snapshot folder, 'random', or 'auto': the card's
    `clip`, else 'random'.

    Raises:
      InputError: no name, or no CLIP snapshot there.
    """
    from wsvad_jax.clip.prompts import text_inputs
    from wsvad_jax.clip.snapshot import load_snapshot

    # The recipe decides; `auto` leaves it to the dataset.
    name = config.get("clip")
    if name == "auto":
        name = dataset.card.clip or "random"
    if not name:
        raise InputError(
            "config.clip is empty; expected auto, random, a hub name or the folder of a "
            "CLIP snapshot"
        )

    place = name
    if name == "random":
        place = str(random_snapshot(dataset.width))
    elif dataset.card.clip == name and (dataset.path / name).is_dir():
        # A card may name a folder in its dataset.
        name = place = str((dataset.path / name).resolve())

    # The identity says `random`, not the cache folder of those weights.
    snapshot = load_snapshot(place)
    tower = text_tower_id_of(name, snapshot)
    prompts = zero_shot.fill_templates(config, dataset.card.prompts)
    return text_inputs(snapshot, prompts), tower


def text_tower_id_of(name: str, snapshot: "Snapshot") -> dict[str, Any]:
    """Returns the identity of the text tower, as stored in the model folder."""
    settings = snapshot.text_settings
    return {"clip": name, "hash": snapshot.text_hash, "settings": settings}


def random_snapshot(width: int) -> pathlib.Path:
    """Returns a cached CLIP snapshot of random weights, projecting to `width`."""
    from wsvad_jax.clip.random_snapshot import write_random_snapshot
    from wsvad_jax.clip.towers import TextConfig, VisionConfig

    directory = cache_dir() / "clip" / f"random-{width}"
    if not (directory / "config.json").is_file():  # config.json is written last
        text = TextConfig(514, 128, 512, 4, 2, 77, width, eos_token_id=513)
        vision = VisionConfig(64, 16, 128, 512, 1, 2, width)
        write_random_snapshot(directory, text=text, vision=vision, seed=0)
    return directory


def scoring_model(
    config: "ConfigDict",
    *,
    T: int,
    width: int,
    text: Any = None,
    text_tower_id: dict[str, Any] | None = None,
    mesh: "Mesh | None" = None,
) -> ScoringModel:
    """Builds a recipe's model without its dataset.

    Args:
      config: recipe.
      T: snippets per window.
      width: number of values per snippet.
      text: class prompts with their text tower; None where the model reads none.
      text_tower_id: name, hash and settings of that tower.
      mesh: mesh of the devices; None takes all of them.
    """
    from wsvad_jax.parallel.mesh import make_mesh

    return ScoringModel(
        config=config,
        spec=get_model_spec(config),
        model=build_model(config),
        text=text,
        text_tower_id=text_tower_id,
        T=T,
        width=width,
        mesh=mesh or make_mesh(),
    )


def init_variables(model: Any, features: Any, length: Any, text: Any) -> Any:
    """Returns a model's initial variables for seed 0.

    They serve where shapes or speed count; training starts from its own seed.
    """
    import jax

    rngs = {name: jax.random.key(0) for name in ("params", "dropout", "noise")}
    return model.init(rngs, features, length, text, train=True)


def check_params(experiment: ScoringModel, params: Any, source: str) -> None:
    """Raises InputError unless `params` have the names and shapes of the model's."""
    import jax
    import jax.numpy as jnp

    def init(text):
        features = jnp.zeros((2, 1, experiment.T, experiment.width))
        length = jnp.ones(2, jnp.int32)
        return init_variables(experiment.model, features, length, text)["params"]

    # Shapes alone: nothing is computed.
    wanted = _shapes(jax.eval_shape(init, experiment.text))
    found = _shapes(params)

    # One message names the first difference; the rest usually follows from it.
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"{source}: {name} is {found.get(name, 'missing')}, the recipe asks "
                f"for {wanted.get(name, 'none')}; pass the recipe and dataset that "
                "the model was made for"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves
    }
