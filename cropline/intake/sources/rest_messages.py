"""Error messages for a listing that cannot be read or trusted: one line each, with the setting to check."""

from __future__ import annotations

from cropline.config.api import ApiSettings
from cropline.core.errors import ApiError, ApiRefused, ApiUnavailable
from cropline.intake.sources.completeness import Completeness, Trouble


def by_status(status: int, api: ApiSettings, *, first: bool) -> ApiError:
    where = f"the image API {api.listing}"
    if not first:
        return ApiRefused(
            f"{where} answers {status} to a page after the first; if that is its end, name the end with "
            "CROPLINE_API__TOTAL_PATH or CROPLINE_API__HAS_MORE_PATH"
        )
    if status in (400, 422):
        hint = "check CROPLINE_API__SINCE_FORMAT, SINCE_PARAM, LIMIT_PARAM, PAGE_SIZE, PARAMS and BODY"
    elif status in (401, 403):
        hint = "check CROPLINE_API__TOKEN" if not api.auth.kind else "check CROPLINE_API__AUTH__..."
        hint += ", or how it is sent: CROPLINE_API__AUTH__KIND" if not api.auth.kind else ""
    else:
        hint = {404: "check CROPLINE_API__IMAGES_PATH", 405: "check CROPLINE_API__METHOD"}.get(status, "")
    return ApiRefused(f"{where} answers {status}{'; ' if hint else ''}{hint}")


def failure(trouble: Trouble, api: ApiSettings, checker: Completeness) -> ApiError:
    """Return the error for a listing that cannot be trusted, with the setting to check."""
    where = f"the image API {api.listing}"
    match trouble:
        case Trouble.SAME_PAGE | Trouble.REPEATED:
            return ApiRefused(f"{where}: {_no_progress(api, checker)}")
        case Trouble.SHIFTED:
            extra = " Or CROPLINE_API__OFFSET_PARAM does not count items" if api.paginator == "offset" else ""
            return ApiUnavailable(
                f"{where}: its rows moved between pages on every read, so items may be missing; the next poll "
                f"reads it again. A larger CROPLINE_API__PAGE_SIZE makes this rarer.{extra}"
            )
        case Trouble.FULL:
            return ApiRefused(
                f"{where}: its only page is full ({checker.longest} items) and does not say that it is the last; check "
                f"CROPLINE_API__PAGINATOR{_path_setting(api)}, or raise CROPLINE_API__PAGE_SIZE"
            )
        case _:
            return ApiRefused(
                f"{where} says that it has {checker.total} items but returned {checker.distinct}; check "
                f"CROPLINE_API__PAGINATOR, and CROPLINE_API__TOTAL_PATH (empty: the total is ignored)"
            )


def _path_setting(api: ApiSettings) -> str:
    return {"cursor": ", CROPLINE_API__CURSOR_PATH", "next_url": ", CROPLINE_API__NEXT_URL_PATH"}.get(api.paginator, "")


def _no_progress(api: ApiSettings, checker: Completeness) -> str:
    if api.paginator in ("page_number", "offset") and checker.distinct > checker.longest:
        return (
            "its last page comes again and is full, so it may not be the last; name the end with "
            "CROPLINE_API__TOTAL_PATH or CROPLINE_API__HAS_MORE_PATH"
        )
    match api.paginator:
        case "page_number":
            return (
                "every page has the same items: the API ignores the page number; check CROPLINE_API__PAGE_PARAM, "
                "CROPLINE_API__FIRST_PAGE and CROPLINE_API__PAGINATOR"
            )
        case "offset":
            return (
                "every offset has the same items: the API ignores the offset; check CROPLINE_API__OFFSET_PARAM and "
                "CROPLINE_API__PAGINATOR"
            )
        case kind:
            name = "CROPLINE_API__CURSOR_PARAM and CURSOR_PATH" if kind == "cursor" else "CROPLINE_API__PAGINATOR"
            return (
                f"its pages loop, or its last page names a next one too; check {name}, or name its end with "
                "CROPLINE_API__HAS_MORE_PATH or CROPLINE_API__TOTAL_PATH"
            )
