"""The reason codes of boxes that were not written: the meaning, whether a retry may help, and what an operator does.

docs/failures.md has the same table; a test compares the two.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """One reason. ``transient``: retried with backoff, then dead; else final for this version of the image."""

    code: str
    transient: bool
    meaning: str
    remedy: str


FAILURES: dict[str, Failure] = {
    failure.code: failure
    for failure in (
        Failure("http_429", True, "the photo's host asked us to slow down", "none; Retry-After is honoured"),
        Failure("http_5xx", True, "the photo's host failed", "wait for the next try; if it lasts, ask the host"),
        Failure(
            "timeout",
            True,
            "the photo did not arrive in time, or too slowly",
            "look at the host; raise CROPLINE_FETCH__TIMEOUT_S",
        ),
        Failure("connection", True, "no connection, or it broke", "look at the network and the host"),
        Failure("truncated", True, "the body ended early", "wait for the next try; if it lasts, ask the host"),
        Failure(
            "tls",
            True,
            "the host's certificate is invalid, or the TLS handshake failed",
            "look at the certificate and its chain",
        ),
        Failure(
            "http_other",
            True,
            "the host answered with neither a photo nor an error (202, 204, 206, 304, ...)",
            "ask the camera vendor if it lasts",
        ),
        Failure(
            "bad_url",
            False,
            "the address is not a plain http(s) URL: user names, backslashes, blanks and odd spellings are refused",
            "ask the camera vendor; write IDN hosts as xn--",
        ),
        Failure(
            "forbidden_host",
            False,
            "the host is not among the allowed hosts",
            "if it is yours, add it to CROPLINE_FETCH__ALLOWED_HOSTS",
        ),
        Failure(
            "forbidden_place",
            False,
            "the photo is in a bucket or folder that is not allowed",
            "if it is yours, add it to CROPLINE_FETCH__ALLOWED_BUCKETS or CROPLINE_FETCH__LOCAL_ROOTS",
        ),
        Failure(
            "forbidden_address",
            False,
            "the host resolves to a private, loopback, metadata or other special address",
            "find out who published that address; nothing was sent to it; on premises: CROPLINE_FETCH__PRIVATE_NETWORKS",
        ),
        Failure(
            "bad_redirect",
            False,
            "the host redirected too often, from https to http, or to nowhere",
            "ask the camera vendor for final addresses",
        ),
        Failure(
            "too_large",
            False,
            "the photo has more bytes than allowed",
            "if it is a real photo, raise CROPLINE_FETCH__MAX_BYTES",
        ),
        Failure(
            "encoded_body",
            False,
            "the host sent the photo compressed although asked not to",
            "ask the camera vendor to serve photos as they are",
        ),
        Failure("http_404", False, "the photo is gone (404, 410)", "ask the camera vendor"),
        Failure("http_4xx", False, "the host refused the request", "check tokens and permissions"),
        Failure(
            "url_expired",
            True,
            "the host refused a signed URL (401, 403, 410, or a token that has expired), and the image API returned no fresh one",
            "does the API return the photo with a fresh URL, in its listing or at CROPLINE_API__ITEM_PATH?",
        ),
        Failure(
            "forbidden_path",
            False,
            "a frame names a file that is not below the folder of images",
            "name the folder: cropline.crop(..., files=)",
        ),
        Failure("file_unreadable", False, "the image's file is not there, or cannot be read", "look at the file"),
        Failure("hash_mismatch", False, "the bytes are not those that the manifest declares", "ask the camera vendor"),
        Failure(
            "not_a_picture",
            False,
            "the bytes are not a known picture format (HTML, JSON, ...)",
            "ask the camera vendor",
        ),
        Failure("corrupt_picture", False, "the picture cannot be decoded", "ask the camera vendor"),
        Failure(
            "damaged_pixels",
            False,
            "the photo is damaged inside the box, or the place of the damage is unknown",
            "ask the camera vendor to send it again; boxes above the damage are written",
        ),
        Failure(
            "size_mismatch",
            False,
            "the API declares another size than the photo has, and boxes in pixels cannot be scaled to it",
            "ask the team that finds the boxes; CROPLINE_API__ORIENTATION, CROPLINE_PICTURES__SIZE_MISMATCH; then cropline replay",
        ),
        Failure(
            "format_refused",
            False,
            "the picture's format is not among the allowed ones",
            "ask for JPEGs; what cropline can decode may be added to CROPLINE_PICTURES__FORMATS",
        ),
        Failure(
            "picture_too_large",
            False,
            "the header declares more pixels, or a longer side, than allowed; it was not decoded",
            "if it is a real photo, raise CROPLINE_PICTURES__MAX_PIXELS or __MAX_SIDE",
        ),
        Failure(
            "too_many_scans",
            False,
            "a progressive JPEG with so many scans that it can only be meant to overload decoders",
            "ask the camera vendor",
        ),
        Failure(
            "mode_unsupported", False, "pixels that have no meaning in RGB (32-bit, float)", "ask the camera vendor"
        ),
        Failure(
            "decode_hung",
            True,
            "decoding made no progress in time and was killed; on an overloaded machine this can happen to a good photo",
            "look at the photo; raise CROPLINE_PICTURES__DECODE_TIMEOUT_S",
        ),
        Failure(
            "decoder_killed",
            True,
            "the process that decoded it was killed twice from outside (out of memory?)",
            "look at the worker's memory",
        ),
        Failure("decoder_died", False, "the picture crashed its decoder twice", "keep the photo and report it"),
        Failure("too_many_boxes", False, "the image has more boxes than allowed", "raise CROPLINE_PICTURES__MAX_BOXES"),
        Failure(
            "box_not_finite", False, "a coordinate is missing, NaN or infinite", "ask the team that finds the boxes"
        ),
        Failure("box_inverted", False, "a maximum is smaller than its minimum", "ask the team that finds the boxes"),
        Failure("box_empty", False, "the box has no area", "ask the team that finds the boxes"),
        Failure(
            "box_outside",
            False,
            "the box is outside the picture",
            "check CROPLINE_API__COORDINATES and __ORIENTATION",
        ),
        Failure(
            "box_mostly_outside",
            False,
            "too little of the box is inside the picture",
            "check the boxes, or lower CROPLINE_PICTURES__MIN_IOU",
        ),
        Failure("below_min_side", False, "skipped: the crop is smaller than the profile allows", "none"),
        Failure(
            "crop_not_encodable",
            False,
            "the profile's format cannot hold a crop of this size",
            "choose another format, or set a max_side",
        ),
        Failure(
            "recipe_unreadable",
            True,
            "the claimed recipe was written by another version of cropline",
            "run one version everywhere",
        ),
        Failure("internal_error", True, "cropline itself failed; the log holds the traceback", "report it"),
        Failure(
            "function_failed",
            False,
            "a function of the profile's steps raised an error, or returned something that it does not declare",
            "fix the function and give it a new version",
        ),
        Failure(
            "function_timeout",
            True,
            "a function of the profile's steps took too long, and its process was killed",
            "look at the function; raise its timeout_s",
        ),
        Failure(
            "function_died",
            False,
            "a function of the profile's steps ended its process, or used more memory than allowed",
            "look at the function; raise its memory_mb",
        ),
        Failure("storage", True, "the crop could not be stored", "look at the object store"),
    )
}


class PhotoFailure(Exception):
    """One photo, or one of its boxes, failed. ``detail`` is safe to store: no query, no token, no response body."""

    def __init__(self, code: str, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = FAILURES[code].code
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Callable[..., "PhotoFailure"], tuple[str, str, int | None]]:
        # By default, unpickling calls PhotoFailure(message), which fails: the constructor takes other arguments.
        return _rebuilt, (self.code, self.detail, self.retry_after_s)


def _rebuilt(code: str, detail: str, retry_after_s: int | None) -> PhotoFailure:
    return PhotoFailure(code, detail, retry_after_s=retry_after_s)


def is_transient(code: str) -> bool:
    """Return whether a failure with this code is retried. Raise KeyError for unknown codes: no guess is made."""
    return FAILURES[code].transient
