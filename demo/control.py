"""The control routes of the simulated API, which no vendor has: time, changes, faults, and the access log."""

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from demo.faults import FaultRule
from demo.models import Advance, Advanced, ChangeBox, ChangeEtag, ImageItem, LogEntry
from demo.simulation import Simulation


def control_routes(simulation: Simulation) -> APIRouter:
    """Return the routes below /control, for one simulation."""
    router = APIRouter(prefix="/control", tags=["control"])
    _time_and_changes(router, simulation)
    _faults(router, simulation)
    _records(router, simulation)
    return router


def _time_and_changes(router: APIRouter, simulation: Simulation) -> None:
    @router.post("/advance", summary="Add captures")
    def advance(order: Advance) -> Advanced:
        """In bursts, like the first captures. Late ones are older than the newest photo listed before."""
        added, late = simulation.advance(order.photos, min(order.late, order.photos))
        return Advanced(added=added, late=late)

    @router.post("/change_box", summary="Move one box", response_model=ImageItem)
    def change_box(order: ChangeBox, request: Request) -> Response:
        """The picture and its etag stay the same; `updated_at` changes. Returns the changed row."""
        try:
            return JSONResponse(simulation.change_box(str(request.base_url), order.image_id, order.box_id))
        except KeyError as error:
            raise HTTPException(404, f"no such image or box: {error}") from error

    @router.post("/change_etag", summary="Replace one picture", response_model=ImageItem)
    def change_etag(order: ChangeEtag, request: Request) -> Response:
        """Another picture of the same scene: etag, sha256, bytes and `updated_at` change, boxes do not."""
        try:
            return JSONResponse(simulation.change_picture(str(request.base_url), order.image_id))
        except KeyError as error:
            raise HTTPException(404, f"no such image: {error}") from error

    @router.get("/images", summary="Every row without faults", response_model=list[ImageItem])
    def images(request: Request) -> Response:
        """No fault is applied and no row is left out: tests compare with this."""
        return JSONResponse(simulation.images(str(request.base_url)))


def _faults(router: APIRouter, simulation: Simulation) -> None:
    @router.get("/faults", summary="Active faults")
    def list_faults() -> list[FaultRule]:
        """`times` is the remaining number."""
        return simulation.faults.rules()

    @router.post("/faults", summary="Switch a fault on", status_code=201)
    def add_fault(rule: FaultRule) -> FaultRule:
        """For one image or any, for the next `times` or until cleared. The rule that was added first applies first."""
        simulation.faults.add(rule)
        return rule

    @router.delete("/faults", summary="Switch all faults off", status_code=204)
    def clear_faults() -> None:
        simulation.faults.clear()


def _records(router: APIRouter, simulation: Simulation) -> None:
    @router.get("/log", summary="Access log", response_model=list[LogEntry])
    def log() -> list[dict[str, object]]:
        """Requests to /v1 and /images, in the order in which their responses began; the newest 100,000."""
        return simulation.log.entries()

    @router.delete("/log", summary="Clear the access log", status_code=204)
    def clear_log() -> None:
        simulation.log.clear()

    @router.get("/counts", summary="Number of requests per image")
    def counts() -> dict[str, int]:
        """Maps image ids to numbers of requests, whatever the response."""
        return simulation.log.counts()
