"""A re-index builds a second generation beside the one that is searched, and puts it in its place when it is complete."""

from .directory import CURRENT, NEXT, IndexDirectory
from .embedding import configured_embedder
from .sources import Source, SourceKind
from .writing import create_generation, read_document_ids

_MISSING_SHOWN = 10


class ReindexRefused(ValueError):
    """The new generation cannot be begun or must not take the old one's place."""


def begin(directory: IndexDirectory, name: str) -> tuple[Source, ...]:
    """Open a generation that every write goes to from now on; return all sources that were ever indexed."""
    with directory.locked():
        under_way = directory.read_pointer(NEXT)
        if under_way is not None and _base(under_way) != name:
            raise ReindexRefused(f"generation {under_way} is being built already; wait for its re-index, or cancel it")
        if under_way is None:
            create_generation(directory, name, configured_embedder().name)
            directory.write_pointer(NEXT, name)
        return tuple(
            Source(path, SourceKind(known["kind"]), known["person"]) for path, known in directory.read_sources().items()
        )


def find_lost(directory: IndexDirectory) -> tuple[str, ...]:
    """Return documents that the current generation has and the next has not; there should be none."""
    current, coming = directory.read_pointer(CURRENT), directory.read_pointer(NEXT)
    if current is None or coming is None:
        return ()
    lost = read_document_ids(directory, current) - read_document_ids(directory, coming)
    return tuple(sorted(lost)[:_MISSING_SHOWN])


def finish(directory: IndexDirectory, name: str) -> int:
    """Put the new generation in the old one's place; return how many documents it has."""
    with directory.locked():
        current, coming = directory.read_pointer(CURRENT), directory.read_pointer(NEXT)
        if coming is not None and _base(coming) == name:
            if lost := find_lost(directory):
                raise ReindexRefused(
                    f"the new generation lacks documents that the old one has ({', '.join(lost)}, ...): is a source gone?"
                )
            directory.write_pointer(CURRENT, coming)
            directory.remove_pointer(NEXT)
            if current is not None:
                directory.remove_generation(current)
            current = coming
        elif current is None or _base(current) != name:
            raise ReindexRefused(f"generation {name} is not there")
        return len(read_document_ids(directory, current))


def abandon(directory: IndexDirectory, name: str) -> None:
    """Drop a generation that is being built; the current one stays as it is."""
    with directory.locked():
        coming = directory.read_pointer(NEXT)
        if coming is not None and _base(coming) == name:
            directory.remove_pointer(NEXT)
            directory.remove_generation(coming)


def _base(name: str) -> str:
    """The name that a generation was made with; a rewrite adds a number after a dot."""
    return name.split(".")[0]
