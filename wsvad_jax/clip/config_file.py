"""Reads the sizes of CLIP's towers from config.json of a snapshot."""

import dataclasses
import pathlib
import types
from typing import Any

from wsvad_jax.clip import hub
from wsvad_jax.clip.activations import ACTIVATIONS
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

OTHER_TOWERS = ("text_config_dict", "vision_config_dict")
LIMITS = {"num_hidden_layers": (1, 1000), "eos_token_id": (0, 2**24)}


def read_configs(path: pathlib.Path) -> tuple[TextConfig, VisionConfig]:
    """Reads both towers' sizes from the folder's config.json.

    Raises:
      InputError: the file is missing, or is not the config of a CLIP model.
    """
    file = path / "config.json"
    config = files.read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise InputError(f"{file}: model_type is {kind!r}; expected a 'clip' model")

    whole = _stated_config(config) or _config_with_defaults(path)
    # Each tower has its projection_dim too, but CLIPModel projects to this one.
    text = _sizes(TextConfig, whole.text_config, whole.projection_dim, file)
    vision = _sizes(VisionConfig, whole.vision_config, whole.projection_dim, file)
    return text, vision


def _stated_config(config: dict[str, Any]) -> Any:
    """Returns a config that states every size of both towers, else None.

    Its attributes are those of transformers' `CLIPConfig`.
    """
    # Old files repeat the towers, and files for several versions name others.
    if any(config.get(key) for key in (*OTHER_TOWERS, "configuration_files")):
        return None

    towers = {}
    for key, kind in (("text_config", TextConfig), ("vision_config", VisionConfig)):
        names = {field.name for field in dataclasses.fields(kind)}
        tower = config.get(key)
        if not isinstance(tower, dict) or not names <= tower.keys():
            return None
        towers[key] = types.SimpleNamespace(**{name: tower[name] for name in names})

    if "projection_dim" not in config:
        return None
    return types.SimpleNamespace(projection_dim=config["projection_dim"], **towers)


def _config_with_defaults(path: pathlib.Path) -> Any:
    """Returns transformers' `CLIPConfig`, which knows what a file may leave out.

    It may import PyTorch, so a file that states all sizes is read without it.

    Raises:
      InputError: transformers can't read the file.
    """
    try:
        return hub.transformers().CLIPConfig.from_pretrained(
            path, local_files_only=True
        )
    except Exception as e:  # noqa: BLE001 - kinds differ between transformers 4 and 5
        raise InputError(
            f"{path / 'config.json'}: transformers can't read it as a CLIP config: "
            f"{_one_line(e)}"
        ) from None


def _sizes(kind: Any, tower: Any, projection_dim: Any, file: pathlib.Path) -> Any:
    """Returns a tower's sizes as `kind`, checked, since a config may hold anything."""
    fields = dataclasses.fields(kind)
    values: dict[str, Any] = {f.name: getattr(tower, f.name, None) for f in fields}
    values["projection_dim"] = projection_dim

    # Neither transformers 4 nor the file itself checks types.
    for field in fields:
        value = values[field.name]
        least, most = LIMITS.get(field.name, (1, 2**24))
        if field.type is int and not (type(value) is int and least <= value <= most):
            raise InputError(
                f"{file}: {field.name} is {value!r:.60}; expected a whole number from "
                f"{least} to {most}"
            )
        if field.type is float and not isinstance(value, float):
            raise InputError(f"{file}: {field.name} is {value!r:.60}, not a number")

    # list: the value may be unhashable.
    if values["hidden_act"] not in list(ACTIVATIONS):
        raise InputError(
            f"{file}: hidden_act is {values['hidden_act']!r:.60}; expected one of "
            f"{', '.join(ACTIVATIONS)}"
        )

    heads, width = values["num_attention_heads"], values["hidden_size"]
    if width % heads:
        raise InputError(
            f"{file}: {heads} attention heads don't divide the hidden_size {width}"
        )
    return kind(**values)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
