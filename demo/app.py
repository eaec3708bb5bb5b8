"""The API as its vendor would publish it: the listing, the stores, the photos. control.py has the control routes."""

import json
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AwareDatetime

from demo import images
from demo.access_log import LoggedApp
from demo.control import control_routes
from demo.faults import IMAGE_FAULTS, LISTING_FAULTS, Fault
from demo.models import ImagePage, StoreList
from demo.simulation import BadCursor, Simulation

_ABOUT = """
Photos of shelves and coolers, with a box for every product facing.

**Poll** `GET /v1/images` with a bearer token: pass the newest `updated_at` you know as `updated_after`, then follow
`next_cursor` until it is null. **Fetch** each photo from its `url`, which is signed and needs no token. Boxes are in
0..1 of the *upright* picture; some photos are stored rotated, as their EXIF orientation says.

All data and pictures are invented. The `control` routes advance the time, change photos, switch faults on and show
the access log.
"""

_PAGE_FAULTS = LISTING_FAULTS - {Fault.LISTING_CURSOR_LOOP}
_bearer = HTTPBearer(auto_error=False, description="The server's token.")


def create_app(simulation: Simulation) -> FastAPI:
    """Return the API of one simulation. A photo is drawn when it is first listed, if it is not drawn yet."""
    app = FastAPI(title="cropline's simulated camera API", version="1", description=_ABOUT)
    app.add_middleware(LoggedApp, log=simulation.log)
    _vendor_routes(app, simulation)
    app.include_router(control_routes(simulation), dependencies=[Depends(_token_of(simulation))])
    return app


def _token_of(simulation: Simulation) -> Callable[..., None]:
    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if given is None or not simulation.is_token(given.credentials):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check


def _vendor_routes(app: FastAPI, simulation: Simulation) -> None:
    guarded = [Depends(_token_of(simulation))]

    @app.get(
        "/v1/images",
        summary="Photos that are new or changed",
        response_model=ImagePage,
        tags=["v1"],
        dependencies=guarded,
        responses={
            400: {"description": "A cursor that this API did not give out."},
            401: {"description": "No token."},
        },
    )
    def list_images(
        request: Request,
        updated_after: Annotated[
            AwareDatetime | None,
            Query(description="ISO 8601 with its offset. Inclusive: a photo updated at exactly this time is listed."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="Photos per page.")] = 100,
        cursor: Annotated[
            str | None,
            Query(description="`next_cursor` of the previous page. `updated_after` is then ignored."),
        ] = None,
    ) -> Response:
        """Sorted by `updated_at`, then `id`. A changed photo or box is listed again, with a newer `updated_at`."""
        rule = simulation.faults.strike(_PAGE_FAULTS)
        if rule is not None:
            return _struck_page(rule.fault, rule.seconds)
        try:
            page = simulation.page(str(request.base_url), updated_after, limit, cursor)
        except BadCursor as error:
            raise HTTPException(400, str(error)) from error
        # Not FastAPI's own serialiser: a broken row must be sent as it is. Infinity is not JSON, but 1e999 is.
        return Response(json.dumps(page).replace(": Infinity", ": 1e999"), media_type="application/json")

    @app.get(
        "/v1/stores",
        summary="Stores and cameras",
        tags=["v1"],
        dependencies=guarded,
        response_model=StoreList,
    )
    def list_stores() -> Response:
        """Both tables complete: there are at most a few dozen rows."""
        return Response(json.dumps(simulation.stores()), media_type="application/json")

    @app.get(
        "/images/{image_id}.jpg",
        summary="One photo",
        tags=["v1"],
        response_class=Response,
        responses={
            200: {"content": {"image/jpeg": {}}},
            304: {"description": "If-None-Match names the photo's ETag."},
            403: {"description": "The signature is missing or wrong."},
            404: {"description": "No such photo."},
        },
    )
    def get_image(image_id: str, sig: str = "", if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """The listing has the whole address; its signature is part of it."""
        if not simulation.is_signed(image_id, sig):
            raise HTTPException(403, "the signature is missing or wrong")
        found = simulation.picture(image_id)
        if found is None:
            raise HTTPException(404, "no such image")
        rule = simulation.faults.strike(IMAGE_FAULTS, image_id)
        return images.sound(*found, if_none_match) if rule is None else images.struck(rule, *found)

    @app.get("/healthz", summary="Whether the server answers", tags=["control"])
    def healthy() -> dict[str, str]:
        """Needs no token."""
        return {"status": "ok"}


def _struck_page(fault: Fault, seconds: float | None) -> Response:
    if fault is Fault.LISTING_429:
        return images.too_many(seconds)
    return images.server_error() if fault is Fault.LISTING_500 else images.sign_in_page()
