"""A page in a real, headless Chromium: whether its pictures draw, and what it asks the network for."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHECKER = """<script>
addEventListener("load", () => {
  const bad = [];
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  document.querySelectorAll("svg").forEach((svg) => {
    const box = svg.getBoundingClientRect();
    if (!(box.width > 1 && box.height > 1 && svg.children.length)) bad.push(svg.outerHTML.slice(0, 200));
    svg.querySelectorAll("rect,circle,line,polyline,polygon,text").forEach((mark) => {
      if ([...mark.attributes].some((one) => /NaN|inf/i.test(one.value))) bad.push(mark.outerHTML);
    });
  });
  document.querySelectorAll("img").forEach((img) => { if (!img.naturalWidth) bad.push(img.outerHTML.slice(0, 80)); });
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  const images = document.querySelectorAll("img").length;
  const map = document.querySelector("svg.map .dot");
  map.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 5, clientY: 5 }));
  const tip = document.getElementById("tip");
  const said = { bad, wide, svgs: document.querySelectorAll("svg").length,
                 images, tip: tip.hidden ? "" : tip.textContent,
                 tipImage: !!tip.querySelector("img") };
  document.body.innerHTML = "";
  document.body.dataset.found = btoa(unescape(encodeURIComponent(JSON.stringify(said))));
});
</script>"""


def chromium(*arguments: str, timeout_s: int = 90) -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
    return done.stdout


def drawn(page: Path, folder: Path, *, width: int = 1280) -> dict[str, Any]:
    """Return what is wrong with the pictures of a report, and how many there are."""
    copy = folder / "copy.html"  # whose policy lets the checker in
    copy.write_text(
        re.sub(r"<meta http-equiv[^>]*>", "", page.read_text("utf-8")).replace("</body>", CHECKER + "</body>")
    )
    shown = chromium(
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=5000",
        "--dump-dom", copy.as_uri(),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(base64.b64decode(re.search(r'data-found="([^"]+)"', shown)[1]))  # type: ignore[index]
    return found


def asked_for(page: Path, folder: Path) -> tuple[set[str], str]:
    """Return who asked for anything on the network, and the document at the end; the browser itself has no origin."""
    log = folder / f"{page.stem}.json"
    shown = chromium(
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=3000",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync",
        "--dump-dom", page.as_uri(),
    )  # fmt: skip
    return set(re.findall(r'"initiator":"([^"]+)"', log.read_text("utf-8"))) - {"not an origin"}, shown
