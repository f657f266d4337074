"""Settings that determine the demo's CLIP."""

import dataclasses

from wsvad_jax.utils.errors import InputError

PICTURE = 96  # pixels of a picture's side
KINDS = ("Arson", "Explosion", "Fighting", "RoadAccidents")  # of the demo's events


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that determines a trained snapshot."""

    videos: int = 460
    steps: int = 1000
    batch_size: int = 96
    learning_rate: float = 1.5e-3
    merges: int = 400
    patch_size: int = 16
    width: int = 192
    layers: int = 3
    seed: int = 0
    without: str = ""  # class of events that no street shows

    @property
    def heads(self) -> int:
        """Attention heads of the image tower: one per 64 of its width."""
        return max(self.width // 64, 1)

    def check(self) -> None:
        """Raises InputError for the first value out of its range."""
        # Counts and the seed
        for name in ("videos", "steps", "batch_size", "width", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.merges < 0:
            raise InputError(f"merges is {self.merges}; expected 0 or more")
        if not 0 <= self.seed < 2**31 - 1:
            raise InputError(f"seed is {self.seed}; expected 0 to {2**31 - 2}")

        # The image tower
        if self.width % self.heads:
            raise InputError(
                f"width is {self.width}, which its {self.heads} attention heads don't "
                "divide; expected a multiple of 64, or less than 128"
            )
        if self.patch_size < 1 or PICTURE % self.patch_size:
            raise InputError(
                f"patch_size is {self.patch_size}; expected a divisor of {PICTURE}, the "
                "pixels of a picture's side"
            )

        # The training
        if self.without not in ("", *KINDS):
            raise InputError(
                f"without is {self.without!r}; expected one of {', '.join(KINDS)}"
            )
        if not 0 < self.learning_rate < 1:
            raise InputError(
                f"learning_rate is {self.learning_rate}; expected a value between 0 "
                "and 1"
            )
