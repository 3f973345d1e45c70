"""The page's files: what they are served as, to whom, and that they ask for nothing from elsewhere."""

import re
from pathlib import Path

import httpx
import pytest

from coordinator import page
from tests.support.nats_server import NatsServer
from tests.unit.coordinator.three import three

PAGE = Path(page.__file__).parent


async def test_every_coordinator_serves_the_page_without_a_key_and_what_is_known_is_not_sent_again(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, httpx.AsyncClient() as http:
        for node in stage.nodes.values():
            answer = await http.get(f"{node.url}/")
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            known = {"if-none-match": answer.headers["etag"]}
            assert (await http.get(f"{node.url}/", headers=known)).status_code == 304
            assert (
                (await http.get(f"{node.url}/page/main.js"))
                .headers["content-type"]
                .startswith("text/javascript")
            )
            for name in ("nothing.js", "..%2f__init__.py", "__init__.py"):
                assert (await http.get(f"{node.url}/page/{name}")).status_code == 404


async def test_a_page_of_a_follower_may_act_and_a_foreign_page_may_not(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, httpx.AsyncClient() as http:
        follower = stage.follower
        url = f"{follower.url}/api/v1/cluster/rebalance?dry_run=true"
        for origin, status in ((follower.url, 200), ("http://elsewhere", 403), ("null", 403)):
            site = "same-origin" if origin == follower.url else "cross-site"
            headers = {"origin": origin, "sec-fetch-site": site}
            assert (await http.post(url, headers=headers)).status_code == status, origin


@pytest.mark.parametrize("name", sorted(page.FILES))
def test_no_file_asks_for_anything_from_elsewhere_or_makes_markup_of_text(name: str) -> None:
    text = page.FILES[name].content.decode()
    known = {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= known
    assert not re.search(r"innerHTML\s*=[^=]|outerHTML\s*=|insertAdjacentHTML|document\.write|eval\(", text)
    assert not re.search(r"<script(?![^>]*src=)|style=|onclick=\"", text)


def test_every_part_that_is_named_is_there() -> None:
    named = set()
    for file in page.FILES.values():
        named |= set(re.findall(rb"(?:/page/|from \"\./)([\w.]+)", file.content))
    assert {name.decode() for name in named} <= set(page.FILES)
    assert all((PAGE / name).is_file() for name in page.FILES)


async def test_a_request_is_told_as_whom_it_came_in(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        answer = await stage.ask("GET", "/whoami", node=stage.follower)
        assert answer.json() == {"role": "admin", "key_id": None, "keys_required": False}
