"""One page from the pages of several partitions: newest first, with one cursor that all partitions understand."""

from collections.abc import Iterable

from perdure.partitions.index import decode_cursor, encode_cursor, place_of
from perdure.schemas.views import time_from_json

from .views import View


def merge_pages(pages: Iterable[View], limit: int) -> tuple[list[View], str | None]:
    """The first `limit` instances of all pages, and the cursor behind them.

    A partition may end its page early. What the others hold behind that place is left for the next page, so that none of its
    instances is passed over.
    """
    pages = list(pages)
    frontier = min((decode_cursor(page["next"]) for page in pages if page["next"] is not None), default=None)
    listed = sorted(((_place(view), view) for page in pages for view in page["instances"]), key=lambda each: each[0])
    before = [each for each in listed if frontier is None or each[0] < frontier]
    taken = before[:limit]
    if len(before) > limit:
        return [view for _, view in taken], encode_cursor(taken[-1][0] + b"\x00")
    return [view for _, view in taken], None if frontier is None else encode_cursor(frontier)


def _place(view: View) -> bytes:
    return place_of(time_from_json(view["created_at"]), view["instance_id"])
