"""The common ground of the data sets: cache folder, processed files, raw files."""

import os
import os.path as osp
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.data.separate import separate
from tqdm import tqdm

from geomeq.datasets._fingerprint import fingerprint

Slices = dict[str, Tensor] | None


def cache_root() -> Path:
    """The folder under which data sets keep what they computed: ``$GEOMEQ_CACHE`` or ``~/.cache/geomeq``."""
    return Path(os.environ.get("GEOMEQ_CACHE") or Path.home() / ".cache" / "geomeq").expanduser()


class CachedDataset(InMemoryDataset):
    """An in-memory data set whose processed file is named by all that determines it.

    A subclass sets ``version`` (raised whenever the content changes), calls ``super().__init__`` last,
    and overrides :meth:`settings` (what the user chose) and :meth:`build` (the samples). This class
    gives the rest:

    - ``processed_dir`` ends in a fingerprint of class, version, settings, ``pre_transform`` and
      ``pre_filter``: another choice is another folder, so nothing stale is ever read.
    - The processed file is written beside its place and then renamed, so an interrupted run leaves
      nothing that a later run would take for finished.
    - A damaged processed file is built again, with a warning.
    - In a folder that cannot be written the data set works from memory, with a warning.

    Args:
        root: Folder for ``raw/`` and ``processed/``; default: one named after the class in
            ``$GEOMEQ_CACHE`` or ``~/.cache/geomeq``.
        transform: Applied to a sample at every access.
        pre_transform: Applied to every sample once; the result is stored.
        pre_filter: Keeps the samples for which it returns true; sees the sample before ``pre_transform``.
        force_reload: Build again even if a processed file is there.
    """

    version = "1"
    _loaded: tuple[Data, Slices]

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        folder = str(root) if root is not None else str(cache_root() / type(self).__name__.lower())
        super().__init__(folder, transform, pre_transform, pre_filter, force_reload=force_reload)
        self._data, self.slices = self._loaded
        del self._loaded

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content, by name."""
        return {}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Makes all samples, collated: one ``Data`` with every sample end to end, and where each begins."""
        raise NotImplementedError

    @property
    def raw_file_names(self) -> list[str]:
        """Empty: a data set looks for its raw file itself, in several places."""
        return []

    @property
    def processed_file_names(self) -> list[str]:
        """The name of the processed file."""
        return ["data.pt"]

    @property
    def processed_dir(self) -> str:
        """The folder of the processed file; it changes with everything that changes the content."""
        settings = fingerprint(
            type(self).__qualname__, self.version, self.settings(), self.pre_transform, self.pre_filter
        )
        return osp.join(self.root, "processed", settings)

    def _process(self) -> None:
        loaded = None if self.force_reload else _read_processed(Path(self.processed_paths[0]))
        if loaded is None:
            self.process()
        else:
            self._loaded = loaded

    def process(self) -> None:
        """Builds the samples, filters and transforms them, and writes the processed file."""
        data, slices = self.build()
        if self.pre_filter is not None or self.pre_transform is not None or _count(slices) == 1:
            self._loaded = self._apply(data, slices)
        else:
            self._loaded = data, slices
        _write_processed(Path(self.processed_paths[0]), *self._loaded)

    def _apply(self, data: Data, slices: dict[str, Tensor]) -> tuple[Data, Slices]:
        """Runs ``pre_filter`` and ``pre_transform`` on every sample and collates what is left."""
        total, kept = _count(slices), []
        quiet = total < 200
        for index in tqdm(range(total), desc=f"{type(self).__name__}: pre_transform", unit="sample", disable=quiet):
            sample = separate(cls=Data, batch=data, idx=index, slice_dict=slices, decrement=False)
            if self.pre_filter is not None and not self.pre_filter(sample):
                continue
            kept.append(sample if self.pre_transform is None else self.pre_transform(sample))
        if not kept:
            raise ValueError(
                f"pre_filter rejected all {total} samples of {type(self).__name__}; at least one must be left: "
                "it has to return True for the samples to keep"
            )
        return self.collate(kept)


def _count(slices: dict[str, Tensor]) -> int:
    return next(iter(slices.values())).numel() - 1


def _read_processed(path: Path) -> tuple[Data, Slices] | None:
    """Reads a processed file; ``None`` if there is none, or if it is damaged (said aloud)."""
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, weights_only=True)  # never executes what a file says
        return _class_named(stored.get("class", "")).from_dict(stored["data"]), stored["slices"]
    except Exception as error:
        warnings.warn(f"{path} is damaged ({type(error).__name__} on reading it); building it again", stacklevel=2)
        return None


def _name_of(kind: type[Data]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _class_named(name: str) -> type[Data]:
    """The class of the samples: ``Data``, or one derived from it which knows how to join its attributes in a batch.

    Only classes that are there already are considered: a file cannot have a module imported. ``pre_transform`` made
    the samples, so the module that defines their class has been.
    """
    if not name:
        return Data
    kinds = [Data]
    for kind in kinds:  # grows while it runs: classes derived from derived ones
        if _name_of(kind) == name:
            return kind
        kinds += kind.__subclasses__()
    raise TypeError(f"the samples are of class {name}, which is not known here")


def _write_processed(path: Path, data: Data, slices: Slices) -> None:
    """Writes a processed file in one step: a reader sees the whole file or none."""
    stored = {"data": data.to_dict(), "slices": slices, "class": _name_of(type(data))}
    for name, value in stored["data"].items():  # type: ignore[union-attr]
        _check_storable(name, value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError as error:
        _warn_uncached(path, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(stored, file)
        os.chmod(temporary, 0o644)  # mkstemp gives 0600; a shared cache must be readable by all
        os.replace(temporary, path)
    except OSError as error:
        _warn_uncached(path, error)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _warn_uncached(path: Path, error: OSError) -> None:
    warnings.warn(
        f"{path} cannot be written ({error}); the data set works from memory and will be built again next time. "
        "Give root= or the environment variable GEOMEQ_CACHE a folder that can be written",
        stacklevel=2,
    )


def _check_storable(name: str, value: Any) -> None:
    """Raises for what a pickle-free reader could not read back."""
    if isinstance(value, list | tuple):
        for part in value[:1]:
            _check_storable(name, part)
    elif isinstance(value, dict):
        for part in value.values():
            _check_storable(name, part)
    elif not (value is None or isinstance(value, Tensor | bool | int | float | str)):
        raise TypeError(
            f"pre_transform wrote the attribute {name!r} of type {type(value).__name__}, which cannot be stored "
            "without pickle; store tensors, numbers or strings, or apply this transform at access with transform="
        )
