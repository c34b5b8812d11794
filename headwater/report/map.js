
const data = JSON.parse(document.getElementById("data").textContent);
const STEPS = 65535, CELLS = 128, NEAR = 14, MARGIN = 24, MANY = 20000;
const n = data.x.length;
const canvas = document.getElementById("map"), context = canvas.getContext("2d");
const tip = document.getElementById("tip"), search = document.getElementById("search");
const keys = [...document.querySelectorAll("[data-label]")];
const view = { scale: 1, x: 0, y: 0 };  // of a plane of 1 × 1
let width = 1, height = 1, base = 1, colours = [], ink = "", chosen = null, matches = null, hovered = -1, waiting = false;

const GOLDEN = 137.508;  // degrees: however many hues there are, each is far from the one before and all are apart
const none = data.labels.length;  // the colour of items without a label stands behind those of labels
const colourOf = (label) => label < 0 ? none : label;
const isLit = (i) => (chosen === null || data.label[i] === chosen) && (matches === null || matches[i]);

// Items of each colour together, so that a colour is set once; and of each cell, for the pointer.
const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => colourOf(data.label[b]) - colourOf(data.label[a]) || a - b);
const cellOf = (i) => Math.min(CELLS - 1, (data.y[i] * CELLS / STEPS) | 0) * CELLS + Math.min(CELLS - 1, (data.x[i] * CELLS / STEPS) | 0);
const starts = new Uint32Array(CELLS * CELLS + 1), inCells = new Uint32Array(n);
for (let i = 0; i < n; i++) starts[cellOf(i) + 1]++;
for (let cell = 0; cell < CELLS * CELLS; cell++) starts[cell + 1] += starts[cell];
const next = starts.slice();
for (let i = 0; i < n; i++) inCells[next[cellOf(i)]++] = i;

const spanOf = (places) => Math.max(.01, places.reduce((most, one) => Math.max(most, Math.abs(2 * one / STEPS - 1)), 0));
const span = [spanOf(data.x), spanOf(data.y)];

const xOf = (i) => width / 2 + base * view.scale * (data.x[i] / STEPS - .5 - view.x);
const yOf = (i) => height / 2 + base * view.scale * (data.y[i] / STEPS - .5 - view.y);
const radius = () => Math.max(1.1, Math.min(5, 90 / Math.sqrt(n + 1) + 1)) * Math.min(3, Math.sqrt(view.scale));

function draw() {
  waiting = false;
  const r = radius(), square = n > MANY;
  context.clearRect(0, 0, width, height);
  for (const lit of [false, true]) {
    if (!lit && chosen === null && matches === null) continue;
    context.globalAlpha = lit ? .75 : .06;
    let colour = -1;
    for (const i of order) {
      if (isLit(i) !== lit) continue;
      const x = xOf(i), y = yOf(i);
      if (x < -r || y < -r || x > width + r || y > height + r) continue;
      const own = colourOf(data.label[i]);
      if (own !== colour) context.fillStyle = colours[colour = own];
      if (square) context.fillRect(x - r, y - r, 2 * r, 2 * r);
      else { context.beginPath(); context.arc(x, y, r, 0, 7); context.fill(); }
    }
  }
  if (hovered >= 0) {
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.strokeStyle = ink;
    context.beginPath();
    context.arc(xOf(hovered), yOf(hovered), r + 3, 0, 7);
    context.stroke();
  }
}
const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };

function fit() {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  [width, height] = [box.width, box.height];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  base = Math.max(1, Math.min((width - 2 * MARGIN) / span[0], (height - 2 * MARGIN) / span[1]));
  paint();
  draw();
}

function paint() {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(name).trim();
  const more = (i) => `hsl(${i * GOLDEN % 360} ${40 + i % 3 * 20}% ${+of("--lightness") + i % 2 * 10}%)`;
  colours = data.labels.map((_, i) => of("--c" + i) || more(i));
  colours.push(of(data.labels.length ? "--none" : "--c0"));  // a lone one need not be faint
  ink = of("--ink");
  for (const key of keys) key.firstElementChild.style.background = colours[colourOf(+key.dataset.label)];
}

function zoom(factor, x = width / 2, y = height / 2) {
  const scale = Math.max(.5, Math.min(400, view.scale * factor));
  view.x += (x - width / 2) / base * (1 / view.scale - 1 / scale);
  view.y += (y - height / 2) / base * (1 / view.scale - 1 / scale);
  view.scale = scale;
  redraw();
}
function move(x, y) { view.x -= x / base / view.scale; view.y -= y / base / view.scale; redraw(); }
function all() { Object.assign(view, { scale: 1, x: 0, y: 0 }); redraw(); }

function nearest(x, y) {
  const reach = NEAR / base / view.scale;
  const at = [(x - width / 2) / base / view.scale + .5 + view.x, (y - height / 2) / base / view.scale + .5 + view.y];
  const [left, right, top, bottom] = [at[0] - reach, at[0] + reach, at[1] - reach, at[1] + reach]
    .map((one) => Math.max(0, Math.min(CELLS - 1, Math.floor(one * CELLS))));
  let best = -1, least = NEAR * NEAR;
  for (let row = top; row <= bottom; row++)
    for (let k = starts[row * CELLS + left]; k < starts[row * CELLS + right + 1]; k++) {
      const i = inCells[k], far = (xOf(i) - x) ** 2 + (yOf(i) - y) ** 2;
      if (far < least && isLit(i)) [best, least] = [i, far];
    }
  return best;
}

function show(event) {
  const box = canvas.getBoundingClientRect();
  const i = nearest(event.clientX - box.left, event.clientY - box.top);
  if (i !== hovered) { hovered = i; redraw(); }
  tip.hidden = i < 0;
  if (i < 0) return;
  const add = (kind, text) => { if (text) tip.appendChild(document.createElement(kind)).textContent = text; };
  tip.replaceChildren();
  if (data.images[i]) tip.appendChild(document.createElement("img")).src = data.images[i];
  add("strong", data.labels[data.label[i]]);
  add("span", data.texts[i]);
  add("small", data.names[i]);
  const wide = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, wide)) + window.scrollX + "px";
  const below = event.clientY + 14 + tip.offsetHeight < window.innerHeight;
  tip.style.top = (below ? event.clientY + 14 : event.clientY - tip.offsetHeight - 10) + window.scrollY + "px";
}

let held = null;
canvas.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); show(event); });
canvas.addEventListener("pointermove", (event) => {
  if (!held) return show(event);
  tip.hidden = true;
  move(event.clientX - held[0], event.clientY - held[1]);
  held = [event.clientX, event.clientY];
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = null));
canvas.addEventListener("pointerleave", () => { tip.hidden = true; hovered = -1; redraw(); });
canvas.addEventListener("dblclick", (event) => zoom(2, event.offsetX, event.offsetY));
canvas.addEventListener("wheel", (event) => { event.preventDefault(); tip.hidden = true; zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY); }, { passive: false });
const KEYS = { ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: all };
canvas.addEventListener("keydown", (event) => { if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); } });
document.getElementById("in").addEventListener("click", () => zoom(1.5));
document.getElementById("out").addEventListener("click", () => zoom(1 / 1.5));
document.getElementById("all").addEventListener("click", all);

for (const key of keys) key.addEventListener("click", () => {
  chosen = chosen === +key.dataset.label ? null : +key.dataset.label;
  for (const one of keys) one.setAttribute("aria-pressed", chosen === +one.dataset.label);
  redraw();
});
let typed = 0;
search.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(find, n > MANY ? 200 : 0); });
function find() {
  const wanted = search.value.trim().toLowerCase(), found = document.getElementById("found");
  const has = (text) => text !== undefined && text.toLowerCase().includes(wanted);
  matches = wanted ? data.names.map((name, i) => has(name) || has(data.labels[data.label[i]]) || has(data.texts[i])) : null;
  found.textContent = matches ? matches.filter(Boolean).length.toLocaleString("en") + " found" : "";
  redraw();
}
addEventListener("resize", fit);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
fit();
