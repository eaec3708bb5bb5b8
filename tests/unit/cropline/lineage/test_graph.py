"""The lineage graph: well-formed, self-contained, with each count on its own edge."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from cropline.lineage import lineage_svg
from cropline.lineage.graph import COUNTS

SVG = "{http://www.w3.org/2000/svg}"
FULL = dict(zip(COUNTS, (1204, 1192, 1180, 12, 1181, 43210, 37, 4), strict=True))


def texts(svg: str) -> list[str]:
    """Return the drawn texts in order, without tooltips."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_each_count_stands_with_what_it_counts() -> None:
    drawn = texts(lineage_svg(FULL))
    pairs = {what: number for number, what in pairwise(drawn) if number.replace(",", "").isdigit()}
    assert pairs == {
        "items polled": "1,204",
        "rows": "43,251",  # the manifest's 1,192 has the same label and comes first
        "valid": "1,180",
        "images": "1,181",
        "written": "43,210",
        "quarantined": "12",
    }
    assert drawn[drawn.index("1,192") + 1] == "rows"
    assert "37 failed, 4 skipped" in drawn


def test_who_cannot_see_it_is_told_the_same() -> None:
    title = ElementTree.fromstring(lineage_svg(FULL)).find(f"{SVG}title")
    assert title is not None
    assert title.text == (
        "From camera API to crops: 1,204 polled, 1,192 landed, 1,180 valid, 12 quarantined, 1,181 images, "
        "43,210 written, 37 failed, 4 skipped"
    )


def test_unknown_counts_are_dashes_and_zeros_are_zeros() -> None:
    assert texts(lineage_svg({})).count("–") == 7
    zeros = texts(lineage_svg(dict.fromkeys(COUNTS, 0)))
    assert zeros.count("0") == 7
    assert not any("failed" in text for text in zeros)


def test_a_quarantine_with_something_in_it_stands_out() -> None:
    assert 'class="bad"' in lineage_svg(FULL)
    assert 'class="bad"' not in lineage_svg(FULL | {"quarantined": 0})


def test_long_numbers_are_short_on_the_edge_and_whole_in_the_tooltip() -> None:
    svg = lineage_svg(FULL | {"images": 11_800_042})
    assert "11.8 M" in texts(svg)
    assert "11,800,042 images" in svg


def test_a_hostile_title_is_only_text_and_nothing_is_loaded() -> None:
    evil = '</text><script>alert(1)</script>&"'
    svg = lineage_svg(FULL, title=evil)
    root = ElementTree.fromstring(svg)
    assert evil in texts(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg",
        "title",
        "style",
        "rect",
        "path",
        "text",
    }
    assert not any("href" in name or "src" in name for element in root.iter() for name in element.attrib)
    assert "url(" not in svg
    assert "@import" not in svg


def test_what_it_was_is_named_and_long_names_are_whole_in_the_tooltip() -> None:
    batch, hostile = "20261122-084003-0a1b2c3d4e5f", "<b>&'"
    svg = lineage_svg(FULL, names={"crop": batch, "catalogue": hostile, "state": ""})
    assert {"…-0a1b2c3d4e5f"[:1] + batch[-14:], hostile, "work queue"} <= set(texts(svg))
    titles = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert {batch, hostile} <= set(titles)


def test_what_no_picture_may_hold_is_written_out() -> None:
    svg = lineage_svg(FULL, title="of \x1b[2J", names={"state": "a\x00b\ud800"})
    svg.encode()
    assert {"of \\x1b[2J", "a\\x00b\\ud800"} <= set(texts(svg))


def test_a_long_title_ends_inside_the_picture_and_is_whole_in_its_tooltip() -> None:
    title = f"crops/default/cams/{'x' * 200}/0007-b08.jpg, in its batch"
    svg = lineage_svg(FULL, title=title)
    (drawn,) = [text for text in texts(svg) if text.endswith("0007-b08.jpg, in its batch")]
    assert (len(drawn), drawn[0]) == (110, "…")
    assert title in [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
