"""Bringing a model file that is on this disk already into the library, and naming models.

Owns `import`, `cp` and `alias`. A file is referred to where it lies unless asked otherwise; what is
copied, linked or moved goes into the shared Hugging Face cache, where every other tool finds it,
under the owner `imported` that no hub has given. Refuses to replace a name or a file.
"""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from llmchat.core.models import Models
from llmchat.core.settings import SettingsService
from llmchat.errors import LlmchatError, ModelFileError, NotFound, UsageError
from llmchat.gguf import check_loadable
from llmchat.library.references import is_repo, parse_reference
from llmchat.library.stores.huggingface import IMPORTED
from llmchat.values import ModelFile
from llmchat.whole_file import beside, sync_folder

How = Literal["refer", "copy", "hardlink", "symlink", "move"]
OnBytes = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,79}")
_CHUNK = 1024 * 1024
_REF = "imported"
"""A ref of ours: `hf cache prune` takes away what no ref names."""


class Importing:
    """Names and files that the user brings. `settings` keeps the names."""

    def __init__(self, models: Models, settings: SettingsService) -> None:
        self._models, self._settings = models, settings

    def import_(
        self,
        path: str,
        *,
        how: How = "refer",
        name: str = "",
        on_bytes: OnBytes = lambda _done, _total: None,
    ) -> ModelFile:
        """Make a GGUF file a model of the library; all parts of one that has several.

        Raises:
            NotFound: no such file. ModelFileError: no whole GGUF, or the disk refuses.
            UsageError: the name cannot be one, or is taken.
        """
        model = self._models.resolve(str(Path(path).expanduser().absolute()))
        check_loadable(model.path)
        name = self._free_name(name or _name_of(model.path), model)
        if how == "refer":
            self._settings.set_alias(name, model.path)
            return self._models.resolve(name)
        paths = [Path(shard) for shard in model.shards or (model.path,)]
        if how == "symlink":
            self._link(name, paths)
        else:
            self._store(name, paths, how, on_bytes)
        return self._models.resolve(name)

    def alias(self, name: str, ref: str) -> bool:
        """Give a reference another name. True when the model is here already.

        Raises:
            UsageError: the name cannot be one, or `ref` is no reference.
        """
        _check_name(name)
        parse_reference(ref)
        if name.casefold() == ref.strip().casefold():
            raise UsageError("library.alias_of_itself", name=name)
        is_file = Path(ref).expanduser().is_file()
        self._settings.set_alias(name, str(Path(ref).expanduser().absolute()) if is_file else ref)
        try:
            self._models.resolve(name)
        except LlmchatError:
            return False
        return True

    def forget(self, name: str) -> str:
        """Take a name away, with the settings that it has; what it meant. The model stays.

        Raises:
            NotFound: no such name.
        """
        known = {alias.casefold(): alias for alias in self._settings.aliases}
        alias = known.get(name.casefold())
        if alias is None:
            raise NotFound("library.no_alias", name=name)
        target = self._settings.aliases[alias]
        self._settings.set_alias(alias, None)
        self._settings.copy_model_table(None, alias)
        return target

    def copy(self, ref: str, name: str) -> ModelFile:
        """A second name with settings of its own, those of the first to begin with. No bytes.

        Raises:
            NotFound: no such model here. UsageError: the name cannot be one, or is taken.
        """
        model = self._models.resolve(ref)
        self._free_name(name, None)
        _check_name(name)
        is_path = model.source == "file"
        self._settings.set_alias(name, model.path if is_path else model.name)
        self._settings.copy_model_table(model.name, name)
        return self._models.resolve(name)

    def _free_name(self, name: str, model: ModelFile | None) -> str:
        """`name`, when nothing else has it.

        Raises:
            UsageError: it cannot be a name, or is taken.
        """
        _check_name(name)
        taken = {one.name.casefold(): one for one in self._models.list()}
        other = taken.get(name.casefold())
        if other is not None and (model is None or not os.path.samefile(other.path, model.path)):
            raise UsageError("library.name_taken", name=name, path=other.path)
        aliases = {alias.casefold() for alias in self._settings.aliases}
        if other is None and name.casefold() in aliases:
            raise UsageError("library.alias_taken", name=name)
        return name

    def _store(self, name: str, paths: Sequence[Path], how: How, on_bytes: OnBytes) -> None:
        """The content as blobs of the shared cache, then the names of all parts."""
        from llmchat.hub.cache import RepoFolder

        total = sum(path.stat().st_size for path in paths)
        folder = RepoFolder(self._models.hub_cache, f"{IMPORTED}{_folder_name(name)}")
        digests, before = [], 0
        for path in paths:
            digests.append(_sha256(path, before, total, on_bytes))
            before += path.stat().st_size
        for path, digest in zip(paths, digests, strict=True):
            blob = folder.blob(digest)
            folder.prepare(blob)
            if not blob.exists():
                _PLACERS[how](path, blob)
        commit = hashlib.sha1("\n".join(digests).encode(), usedforsecurity=False).hexdigest()
        for path, digest in zip(paths, digests, strict=True):
            folder.link(commit, path.name, digest)
        folder.write_ref(_REF, commit)
        if how == "move":  # last: killed before, the file is in both places, never in none
            _leave(paths)

    def _link(self, name: str, paths: Sequence[Path]) -> None:
        """Names in the shared cache that lead to the files where they lie."""
        from llmchat.hub.cache import RepoFolder, writable

        folder = RepoFolder(self._models.hub_cache, f"{IMPORTED}{_folder_name(name)}")
        whole = "\n".join(map(str, paths)).encode("utf-8", "surrogateescape")
        commit = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
        for path in paths:
            target = folder.snapshot(commit, path.name)
            folder.prepare(target)
            with writable(target), beside(target) as fresh:
                fresh.symlink_to(path.resolve())
                fresh.replace(target)
        folder.write_ref(_REF, commit)


def _check_name(name: str) -> None:
    """Raises UsageError: it would not be read as one word when it is typed."""
    if not _NAME.fullmatch(name) or name.casefold().endswith(".gguf"):
        raise UsageError("library.bad_name", name=name[:80])


def _name_of(path: str) -> str:
    """A name from a file's: without the extension, the part's number and odd characters."""
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", os.path.basename(path), flags=re.IGNORECASE)
    return re.sub(r"-{2,}|[^A-Za-z0-9._+-]+-*", "-", stem).strip(".-_+")[:80] or "model"


def _folder_name(name: str) -> str:
    """The name as a repository's: what Hugging Face's rules do not allow becomes `-`."""
    folder = re.sub(r"-{2,}|\.{2,}|[^A-Za-z0-9._-]", "-", name).strip(".-")
    if not is_repo(f"{IMPORTED}{folder}") or folder != name:
        raise UsageError("library.bad_import_name", name=name)
    return folder


def _sha256(path: Path, before: int, total: int, on_bytes: OnBytes) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            before += len(piece)
            on_bytes(before, total)
    return digest.hexdigest()


def _copy(path: Path, blob: Path) -> None:
    """Copied beside its name, then named: what is killed in between is no model."""
    import shutil

    from llmchat.hub.cache import require_space, writable

    require_space(blob.parent, path.stat().st_size)
    with writable(blob), beside(blob) as fresh:
        shutil.copyfile(path, fresh)
        if _sha256(fresh, 0, 0, lambda _done, _total: None) != blob.name:
            raise ModelFileError("library.changed_meanwhile", path=str(path))
        descriptor = os.open(fresh, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(blob)
        sync_folder(blob.parent)


def _hardlink(path: Path, blob: Path) -> None:
    try:
        os.link(path.resolve(), blob)
    except OSError as error:
        reason = error.strerror or str(error)
        key = "library.other_disk" if error.errno == errno.EXDEV else "library.cannot_link"
        raise ModelFileError(key, path=str(path), folder=str(blob.parent), reason=reason) from error


def _link_or_copy(path: Path, blob: Path) -> None:
    """For a move: the content under both names, until the new ones are all there."""
    try:
        os.link(path.resolve(), blob)
    except OSError:  # another disk, or one without hard links
        _copy(path, blob)


def _leave(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ModelFileError("library.cannot_move", path=str(path), reason=reason) from error


_PLACERS: dict[str, Callable[[Path, Path], None]] = {
    "copy": _copy,
    "hardlink": _hardlink,
    "move": _link_or_copy,
}
