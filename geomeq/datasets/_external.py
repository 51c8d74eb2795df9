"""Files that geomeq does not carry: looked for below ``GEOMEQ_DATA`` and in a data set's own ``raw/`` folder."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomeq.datasets._cached import cache_root
from geomeq.datasets._raw import load_npz, require_keys


@dataclass(frozen=True)
class ExternalFile:
    """One file of a user's own.

    Args:
        folder: Below ``GEOMEQ_DATA``, and name of the data set's folder in the cache.
        name: Of the file.
        shapes: Arrays that it must hold, with their shapes.
        dtype: Of all of them.
        sha256: Of the bytes of these arrays, one after the other, hexadecimal: so that a file made again passes.
        advice: How to get or make it.
    """

    folder: str
    name: str
    shapes: dict[str, tuple[int, ...]]
    dtype: str
    sha256: str
    advice: str

    def find(self, root: str | os.PathLike[str] | None) -> Path:
        """Where the file is.

        Args:
            root: Folder with ``raw/``; default: one named after the data set in the cache.

        Raises:
            FileNotFoundError: If it is nowhere.
        """
        data = os.environ.get("GEOMEQ_DATA")
        places = [Path(data).expanduser() / self.folder] if data else []
        places.append((Path(root) if root is not None else cache_root() / self.folder) / "raw")
        found = next((place / self.name for place in places if (place / self.name).is_file()), None)
        if found is not None:
            return found
        looked = " nor ".join(str(place / self.name) for place in places)
        unset = "" if data else "; the environment variable GEOMEQ_DATA is not set"
        raise FileNotFoundError(
            f"found neither {looked}{unset}. Set GEOMEQ_DATA to a folder that holds {self.folder}/{self.name}, or put "
            f"the file into {places[-1]}. {self.advice}"
        )

    def read(self, root: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays, after their sha256 was checked.

        Raises:
            FileNotFoundError: If the file is nowhere.
            ValueError: If it is damaged or another one.
        """
        path = self.find(root)
        arrays = load_npz(path, None, f"copy it again. {self.advice}")
        require_keys(path, arrays, *self.shapes)
        digest = hashlib.sha256()
        for key, shape in self.shapes.items():
            if arrays[key].shape != shape or arrays[key].dtype != self.dtype:
                raise ValueError(
                    f"{key} in {path} must be {self.dtype} of shape {list(shape)}, got {arrays[key].dtype} of shape "
                    f"{list(arrays[key].shape)}. {self.advice}"
                )
            digest.update(np.ascontiguousarray(arrays[key]).tobytes())
        if digest.hexdigest() != self.sha256:
            raise ValueError(
                f"{path} is damaged or another version: the sha256 of {', '.join(self.shapes)} must be {self.sha256}, "
                f"got {digest.hexdigest()}. {self.advice}"
            )
        return {key: arrays[key] for key in self.shapes}
