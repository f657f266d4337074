"""Scores of snippets, as every model returns them."""

from collections.abc import Iterator, Mapping
from typing import Any

from flax import struct
from jaxtyping import Float


@struct.dataclass
class SnippetScores(Mapping[str, Any]):
    """Anomaly scores and class probabilities of T snippets.

    A pytree: its arrays belong to one video or to windows, to JAX or NumPy. As a
    mapping it has the names of scores.npz: `anomaly`, `classes`, `anomaly_BRANCH`.

    Args:
      anomaly: anomaly scores.
      classes: probabilities of C classes, class 0 normal; None without classes.
      branches: anomaly scores of single branches by name, such as `align`.
    """

    anomaly: Float[Any, "*B T"]
    classes: Float[Any, "*B T C"] | None = None
    branches: Mapping[str, Float[Any, "*B T"]] = struct.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the arrays by their names in scores.npz."""
        arrays = {"anomaly": self.anomaly}
        if self.classes is not None:
            arrays["classes"] = self.classes
        return arrays | {f"anomaly_{k}": v for k, v in self.branches.items()}

    # Access by name is for callers from before there were attributes.
    def __getitem__(self, name: str) -> Any:
        return self.as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())
