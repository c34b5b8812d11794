
const dots = JSON.parse(document.getElementById("dots")?.textContent || "[]");
const tip = document.getElementById("tip");
const map = document.querySelector("svg.map");
if (map && tip) {
  map.querySelectorAll("title").forEach((title) => title.remove());
  const add = (kind, name, text) => {
    if (text) Object.assign(tip.appendChild(document.createElement(kind)), { className: name, textContent: text });
  };
  const show = (event) => {
    const dot = event.target.closest?.(".dot");
    tip.hidden = !dot;
    if (!dot) return;
    const [name, text, image, label, predicted] = dots[dot.dataset.i];
    tip.replaceChildren();
    if (image) tip.appendChild(document.createElement("img")).src = image;
    add("strong", "", label);
    add("span", "bad", predicted && "predicted " + predicted);
    add("span", "", text);
    add("small", "", name);
    const wide = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(event.clientX + 14, wide)) + window.scrollX + "px";
    const below = event.clientY + 14 + tip.offsetHeight < window.innerHeight;
    tip.style.top = (below ? event.clientY + 14 : event.clientY - tip.offsetHeight - 10) + window.scrollY + "px";
  };
  map.addEventListener("pointermove", show);
  map.addEventListener("pointerdown", show);
  map.addEventListener("pointerleave", () => (tip.hidden = true));
  document.querySelectorAll("[data-class]").forEach((key) => {
    const light = (on) => map.querySelectorAll(".dot").forEach((dot) =>
      dot.classList.toggle("dim", on && !dot.classList.contains(key.dataset.class)));
    key.addEventListener("pointerenter", () => light(true));
    key.addEventListener("pointerleave", () => light(false));
  });
}
