"""Options of a custom folder's lists: columns of CSV files, and how a split is made."""

import dataclasses
import math

from wsvad_jax.utils.errors import InputError

SEED = 0
TEST_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What the user asked for; None is the default, or what split.json says."""

    normal_folder: str | None = None  # class folder of the ordinary videos
    split_seed: int | None = None
    test_share: float | None = None  # of each class's videos
    video_column: str | None = None  # of CSV files
    label_column: str | None = None

    @property
    def flags(self) -> dict[str, str]:
        """The flags that the user set, by field."""
        given = dataclasses.asdict(self)
        return {name: f"--{name}" for name, v in given.items() if v is not None}

    def check(self) -> None:
        """Raises InputError for a value that no folder could have."""
        for name in ("normal_folder", "video_column", "label_column"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                kind = "folder" if "folder" in name else "column"
                raise InputError(f"--{name} is empty; expected the name of a {kind}")

        if self.normal_folder is not None and set(self.normal_folder) & set("/\\"):
            raise InputError(
                f"--normal_folder {self.normal_folder}: expected the name of a folder in "
                "videos/, such as NoFight, not a path"
            )
        if self.video_column and self.video_column == self.label_column:
            raise InputError(
                f"--video_column and --label_column are both {self.video_column}; expected "
                "two columns"
            )
        if self.split_seed is not None and self.split_seed < 0:
            raise InputError(
                f"--split_seed {self.split_seed}: expected a whole number from 0 on"
            )

        share = self.test_share
        if share is not None and not (math.isfinite(share) and 0 < share < 1):
            raise InputError(
                f"--test_share {share}: expected a share between 0 and 1, such as "
                f"{TEST_SHARE}"
            )
