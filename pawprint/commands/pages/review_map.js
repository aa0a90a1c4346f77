"use strict";
// The map of all pictures: two dimensions of their features, a colour per class, a lasso to select. Points come as
// packed numbers and are drawn on a canvas, so that a hundred thousand of them take a fraction of a second.
const atlas = {
  count: 0, x: null, y: null, label: null, split: null, names: [], places: new Map(), version: "",
  at: -1, row: null, radius: 0, line: [], base: null,
  // the points that the class and the split of the header let through
  shows(i) {
    const label = $("label").value, split = $("split").value;
    return (!label || state.classes[this.label[i]] === label) && (!split || ["train", "valid", "test"][this.split[i]] === split);
  },
  visible() {
    return this.names.filter((_, i) => this.shows(i));
  },
};

const colour = (i) => `hsl(${(i * 137.5 + 20) % 360} 70% ${i % 2 ? 42 : 56}%)`;

async function toggleMap() {
  if (mapIsOpen()) return closeMap();
  if (state.no_features) return say(state.no_features);
  const from = focused()?.image;
  $("atlas").hidden = false;
  $("grid").hidden = $("empty").hidden = true;
  $("mapped").setAttribute("aria-pressed", true);
  $("scroll").scrollTop = 0;
  options($("method"), state.maps.map((name) => [name, name.toUpperCase()]));
  $("method-label").hidden = state.maps.length < 2;
  await loadMap();
  stand(atlas.places.get(from) ?? 0);
  $("map").focus();
}

function closeMap() {
  if (!mapIsOpen()) return;
  $("atlas").hidden = true;
  $("grid").hidden = broken;
  $("mapped").setAttribute("aria-pressed", false);
  layout();
  if (!broken) choose(chosen);
  $("grid").focus();
}

async function loadMap() {
  const version = state.version + $("method").value;
  if (atlas.version !== version) {
    $("spot-text").textContent = "The map is drawn …";
    try {
      const response = await fetch("api/map?" + new URLSearchParams({ method: $("method").value }));
      if (!response.ok) throw Object.assign(new Error((await response.json()).error), { status: response.status });
      const content = await response.arrayBuffer(), n = Number(response.headers.get("x-pictures"));
      [atlas.x, atlas.y, atlas.label, atlas.split] = [0, 1, 2, 3].map((i) => new Uint16Array(content, 2 * i * n, n));
      atlas.names = new TextDecoder().decode(new Uint8Array(content, 8 * n)).split("\n");
      atlas.places = new Map(atlas.names.map((name, i) => [name, i]));
      Object.assign(atlas, { count: n, version });
    } catch (error) {
      atlas.count = 0;
      say("No map: " + explain(error));
    }
    $("spot-text").textContent = "";
  }
  $("colours").replaceChildren(...state.classes.map((name, i) => {
    const item = document.createElement("li"), dot = document.createElement("i");
    dot.style.background = colour(i);
    item.append(dot, name);
    return item;
  }));
  atlas.base = null;
  drawMap();
}

// Where a point is on the canvas, in CSS pixels.
function spot(i) {
  const { width, height } = $("map").getBoundingClientRect(), edge = 14;
  return [edge + (atlas.x[i] / 65535) * (width - 2 * edge), edge + (1 - atlas.y[i] / 65535) * (height - 2 * edge)];
}

const dot = () => (atlas.count > 20000 ? 2 : atlas.count > 2000 ? 4 : 6);

function drawMap() {
  if (!mapIsOpen() || !atlas.count) return;
  const canvas = $("map"), { width, height } = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  const key = [width, height, scale, $("label").value, $("split").value, atlas.version].join();
  if (atlas.base?.key !== key) { // the points themselves, once for this size and filter
    const base = Object.assign(document.createElement("canvas"), { width: width * scale, height: height * scale, key });
    const pen = base.getContext("2d"), size = dot();
    pen.scale(scale, scale);
    for (const shown of [false, true])
      for (let i = 0; i < atlas.count; i++) {
        if (atlas.shows(i) !== shown) continue;
        const [x, y] = spot(i);
        pen.globalAlpha = shown ? 0.85 : 0.12;
        pen.fillStyle = colour(atlas.label[i]);
        pen.fillRect(x - size / 2, y - size / 2, size, size);
      }
    atlas.base = base;
    Object.assign(canvas, { width: width * scale, height: height * scale });
  }
  const pen = canvas.getContext("2d"), ink = getComputedStyle(canvas).color, size = dot() + 3;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(atlas.base, 0, 0);
  pen.scale(scale, scale);
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 1.5;
  for (const name of picked) {
    const i = atlas.places.get(name);
    if (i === undefined) continue;
    const [x, y] = spot(i);
    pen.strokeRect(x - size / 2, y - size / 2, size, size);
  }
  if (atlas.at >= 0) {
    const [x, y] = spot(atlas.at);
    pen.lineWidth = 3;
    pen.beginPath();
    pen.arc(x, y, Math.max(9, atlas.radius), 0, 7);
    pen.stroke();
  }
  if (atlas.line.length > 1) {
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    for (const [x, y] of atlas.line) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
    pen.setLineDash([]);
  }
}

// Make a point the chosen one: its picture is shown beside the map.
async function stand(i) {
  if (!atlas.count || i < 0) return;
  Object.assign(atlas, { at: i, radius: 0 });
  drawMap();
  const name = atlas.names[i];
  try {
    const { pictures: [row] } = await call("api/named", { images: [name], order: $("order").value });
    if (atlas.names[atlas.at] !== name) return;
    atlas.row = row;
    $("spot-picture").src = "thumbnail/" + name;
    $("spot-picture").hidden = false;
    $("spot-text").textContent = [row.label, row.split, row.figure, decisionText(row)].filter(Boolean).join(", ");
    describe();
  } catch (error) {
    say(explain(error));
  }
}

// The nearest point in a direction: sideways costs more than ahead.
function towards(dx, dy) {
  const [x, y] = spot(atlas.at);
  let best = -1, least = Infinity;
  for (let i = 0; i < atlas.count; i++) {
    if (i === atlas.at || !atlas.shows(i)) continue;
    const [px, py] = spot(i), ahead = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (ahead <= 0.01 || aside > 2 * ahead) continue;
    if (ahead + 2 * aside < least) [best, least] = [i, ahead + 2 * aside];
  }
  return best;
}

function within(test) {
  const found = [];
  for (let i = 0; i < atlas.count; i++) if (atlas.shows(i) && test(...spot(i))) found.push(atlas.names[i]);
  return found;
}

function pressOnMap(event, key) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (key in ways && atlas.at >= 0) {
    const next = towards(...ways[key]);
    if (next >= 0) stand(next);
  } else if ("+=-".includes(key) && atlas.at >= 0) {
    const [x, y] = spot(atlas.at), old = atlas.radius;
    atlas.radius = Math.max(0, old + (key === "-" ? -15 : 15));
    const inside = (radius) => within((px, py) => Math.hypot(px - x, py - y) <= radius);
    if (key === "-") pick(inside(old), false);
    pick(inside(atlas.radius), true);
  } else if (key === "g" && picked.size) seePicked();
  else return false;
  return true;
}

function seePicked() {
  const names = [...picked];
  showNamed(names, null, `${names.length} selected on the map`);
}

// Whether a point is inside a line drawn around an area (crossing number).
function inside(line, x, y) {
  let odd = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [ax, ay] = line[i], [bx, by] = line[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

function startMap() {
  const canvas = $("map"), place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    atlas.line = [place(event)];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!atlas.line.length) return;
    const events = event.getCoalescedEvents?.() ?? []; // all moves of a frame, not the last alone
    for (const each of events.length ? events : [event]) atlas.line.push(place(each));
    requestAnimationFrame(drawMap);
  });
  canvas.addEventListener("pointerup", (event) => {
    const line = atlas.line, [x, y] = place(event);
    atlas.line = [];
    if (!atlas.count) return;
    const far = Math.max(...line.map(([px, py]) => Math.hypot(px - line[0][0], py - line[0][1])));
    if (far < 6) { // a tap: the nearest picture
      let best = 0, least = Infinity;
      for (let i = 0; i < atlas.count; i++) {
        const [px, py] = spot(i), d = Math.hypot(px - x, py - y);
        if (atlas.shows(i) && d < least) [best, least] = [i, d];
      }
      if ($("pick").getAttribute("aria-pressed") === "true" || event.ctrlKey || event.metaKey) pick([atlas.names[best]]);
      return stand(best);
    }
    const [left, right] = [Math.min(...line.map((p) => p[0])), Math.max(...line.map((p) => p[0]))];
    const found = within((px, py) => px >= left && px <= right && inside(line, px, py));
    if (!event.shiftKey && $("pick").getAttribute("aria-pressed") !== "true") picked = new Set();
    pick(found, true);
  });
  canvas.addEventListener("pointercancel", () => { atlas.line = []; drawMap(); });
  canvas.addEventListener("dblclick", closer);
  $("method").addEventListener("change", () => loadMap().then(() => stand(atlas.at)));
  $("see").addEventListener("click", () => picked.size && seePicked());
  new ResizeObserver(drawMap).observe(canvas);
}
