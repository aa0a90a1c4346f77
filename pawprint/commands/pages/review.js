"use strict";
// The page keeps nothing that matters: decisions live in data/decisions.csv, the view in the address. Pictures come
// from the server in pages, those in sight and a few around them.
const $ = (id) => document.getElementById(id);
const [GAP, CAPTION, PAGE, HELD] = [12, 54, 100, 3000];
const DIGITS = 9; // classes with a button and a digit; if there are more, their names are typed
let state = { classes: [], splits: [], orders: [], correlations: [], maps: [], pictures: 0, decided: 0 };
// what the grid shows: the pictures of the filter, or those of `names`; `rows` are the ones that are here, by place
let list = { total: 0, names: null, figures: null, title: "" };
let rows = new Map(), asked = new Set(), generation = 0;
let chosen = 0, columns = 1, side = 180;
let picked = new Set(), anchor = null; // names of the selected pictures; where a range begins
const history_ = JSON.parse(sessionStorage.getItem("undo") || "[]");
let sending = Promise.resolve();
let broken = true; // nothing is loaded, or a file is not understood
let arranging = Promise.resolve(), waiting = 0; // lists that are on their way: keys wait for them

async function call(path, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "x-pawprint": "review" } } : {};
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

function say(message) {
  $("toast").textContent = message;
  $("toast").hidden = !message;
}

const explain = (error) => (error instanceof TypeError ? "the server does not answer. Start it again, then try again." : error.message);
const filter = () => Object.fromEntries(["label", "split", "order", "show"].map((id) => [id, $(id).value]));
const mapIsOpen = () => !$("atlas").hidden;
const focused = () => (mapIsOpen() ? atlas.row : rows.get(chosen)); // the picture that keys are about
const targets = () => (picked.size ? [...picked] : focused() ? [focused().image] : []);

// --- pages of pictures ---

// Ask for the list again, as after another filter or a decision; the picture `keep` stays the chosen one if it is in it.
function arrange(keep) {
  waiting++;
  arranging = fetchList(keep).finally(() => waiting--);
  return arranging;
}

async function fetchList(keep) {
  const now = ++generation;
  $("classwide").textContent = state.correlations.join(". ");
  $("classwide").hidden = $("order").value !== "faults" || !state.correlations.length;
  if (!list.names) history.replaceState(null, "", "#" + new URLSearchParams(filter()));
  const at = keep === undefined ? 0 : chosen;
  if (list.names) {
    list.total = list.names.length;
    rows = new Map();
    asked = new Set();
    const found = list.names.indexOf(keep);
    chosen = found >= 0 ? found : Math.min(at, Math.max(list.total - 1, 0));
  } else {
    const query = { ...filter(), offset: Math.floor(at / PAGE) * PAGE, limit: PAGE, ...(keep ? { keep } : {}) };
    let answer;
    try {
      answer = await call("api/pictures?" + new URLSearchParams(query));
    } catch (error) {
      return error.status === 409 ? stop(error.message) : say("Not loaded: " + explain(error));
    }
    if (now !== generation) return;
    list.total = answer.total;
    rows = new Map();
    asked = new Set([answer.offset / PAGE]);
    answer.pictures.forEach((picture, i) => rows.set(answer.offset + i, picture));
    chosen = answer.place ?? Math.min(at, Math.max(list.total - 1, 0));
  }
  layout();
}

// Fetch the pages that hold some places and are not here; draw when they come.
async function need(first, last) {
  for (let page = Math.floor(first / PAGE); page * PAGE < last; page++) {
    if (asked.has(page) || page * PAGE >= list.total) continue;
    asked.add(page);
    fetchPage(page, generation);
  }
  if (rows.size > HELD)
    for (const i of rows.keys())
      if (Math.abs(i - first) > HELD / 2) { rows.delete(i); asked.delete(Math.floor(i / PAGE)); }
}

async function fetchPage(page, now) {
  const offset = page * PAGE;
  try {
    const answer = list.names
      ? await call("api/named", { images: list.names.slice(offset, offset + PAGE), order: $("order").value })
      : await call("api/pictures?" + new URLSearchParams({ ...filter(), offset, limit: PAGE }));
    if (now !== generation) return;
    answer.pictures.forEach((picture, i) => {
      if (list.figures?.[offset + i]) picture.figure = list.figures[offset + i];
      rows.set(offset + i, picture);
    });
    if (answer.total !== undefined && answer.total !== list.total) return arrange(focused()?.image ?? "");
    draw();
  } catch (error) {
    if (now === generation) asked.delete(page);
    if (error.status === 409) stop(error.message);
  }
}

// Show pictures by their names, such as those like the chosen one, until Escape.
function showNamed(names, figures, title) {
  const from = list.names ? list.from : focused()?.image;
  closeMap();
  list = { total: names.length, names, figures, title, from };
  $("about-list").textContent = title;
  $("subject").hidden = false;
  for (const id of ["label", "split", "order", "show"]) $(id).disabled = true;
  $("scroll").scrollTop = 0;
  arrange();
  $("grid").focus();
}

function back() {
  const from = list.from;
  list = { total: 0, names: null, figures: null, title: "" };
  $("subject").hidden = true;
  for (const id of ["label", "split", "order", "show"]) $(id).disabled = false;
  arrange(from).then(() => choose(chosen));
  $("grid").focus();
}

async function similar() {
  const picture = focused();
  if (!picture) return;
  if (state.no_features) return say(state.no_features);
  try {
    const found = await call("api/similar?" + new URLSearchParams({ image: picture.image }));
    const figures = ["this picture", ...found.distances.map((each) => "distance " + each.toFixed(2))];
    showNamed([picture.image, ...found.images], figures, `${found.images.length} pictures that look most like one of ${picture.label}, the nearest first`);
  } catch (error) {
    say("Not found: " + explain(error));
  }
}

// --- selecting ---

function pick(images, on) {
  for (const image of images) (on ?? !picked.has(image)) ? picked.add(image) : picked.delete(image);
  draw();
  drawMap();
}

function clearPicked() {
  picked = new Set();
  anchor = null;
  draw();
  drawMap();
}

async function namesBetween(first, last) {
  const here = Array.from({ length: last - first }, (_, i) => rows.get(first + i)?.image);
  if (list.names) return list.names.slice(first, last);
  if (here.every(Boolean)) return here;
  return (await call("api/names?" + new URLSearchParams({ ...filter(), first, last }))).images;
}

async function pickRange(i) {
  anchor ??= { at: chosen, before: new Set(picked) };
  choose(i);
  const [first, last] = [Math.min(anchor.at, chosen), Math.max(anchor.at, chosen) + 1];
  try {
    picked = new Set([...anchor.before, ...(await namesBetween(first, last))]);
    draw();
  } catch (error) {
    say(explain(error));
  }
}

async function pickAll() {
  if (picked.size) return clearPicked();
  if (mapIsOpen()) return pick(atlas.visible(), true);
  try {
    pick(await namesBetween(0, list.total), true);
  } catch (error) {
    say(explain(error));
  }
}

function toggleSelecting() {
  $("pick").setAttribute("aria-pressed", $("pick").getAttribute("aria-pressed") !== "true");
}

// --- drawing ---

function layout() {
  if (broken) return;
  const width = $("grid").clientWidth;
  if (width) {
    columns = Math.max(2, Math.floor((width + GAP) / (180 + GAP)));
    side = (width - GAP * (columns - 1)) / columns;
  }
  $("grid").style.height = Math.ceil(list.total / columns) * (side + CAPTION + GAP) + GAP + "px";
  $("empty").hidden = list.total > 0 || mapIsOpen();
  draw();
}

// Only the rows in sight, and two beyond, are in the document: thousands of pictures cost no more than a screenful.
function draw() {
  if (broken) return;
  const row = side + CAPTION + GAP, view = $("scroll");
  const first = Math.max(0, Math.floor(view.scrollTop / row) - 2) * columns;
  const last = Math.min(list.total, (Math.ceil((view.scrollTop + view.clientHeight) / row) + 2) * columns);
  if (!mapIsOpen()) need(first, last);
  if (list.total && !rows.has(chosen)) need(chosen, chosen + 1);
  const old = new Map([...$("grid").children].map((tile) => [tile.dataset.image, tile]));
  const tiles = [];
  for (let i = first; i < last; i++) {
    const picture = rows.get(i);
    if (!picture) continue;
    const tile = old.get(picture.image) || makeTile(picture);
    old.delete(picture.image);
    fill(tile, picture, i, row);
    if (!tile.isConnected) $("grid").append(tile);
    tiles.push(tile);
  }
  for (const tile of old.values()) tile.remove();
  tiles.forEach((tile, i) => { if ($("grid").children[i] !== tile) $("grid").insertBefore(tile, $("grid").children[i]); });
  $("count").textContent = `${list.total} of ${state.pictures} pictures, ${state.decided} decided`;
  describe();
}

function makeTile(picture) {
  const tile = document.createElement("li");
  tile.id = "p" + picture.image;
  tile.dataset.image = picture.image;
  tile.setAttribute("role", "option");
  tile.innerHTML = '<img alt="" decoding="async"><p><span></span><span class="soft"></span></p><b class="badge" hidden></b>';
  tile.querySelector("img").src = "thumbnail/" + picture.image;
  return tile;
}

function decisionText({ decision }) {
  if (!decision) return "";
  return decision.label ? "→ " + decision.label : decision.action;
}

function fill(tile, picture, i, row) {
  const text = decisionText(picture), [caption, figures] = tile.querySelectorAll("span"), badge = tile.querySelector(".badge");
  const isPicked = picked.has(picture.image);
  Object.assign(tile.style, {
    width: side + "px", height: side + CAPTION + "px",
    left: (i % columns) * (side + GAP) + "px", top: GAP + Math.floor(i / columns) * row + "px",
  });
  tile.className = (picture.decision?.action || "") + (i === chosen ? " on" : "") + (isPicked ? " picked" : "");
  tile.setAttribute("aria-selected", isPicked || (!picked.size && i === chosen));
  tile.setAttribute("aria-posinset", i + 1);
  tile.setAttribute("aria-setsize", list.total);
  caption.textContent = [picture.label, picture.split].filter(Boolean).join(" · ");
  figures.textContent = picture.figure;
  badge.textContent = text;
  badge.hidden = !text;
}

function describe() {
  const picture = focused(), some = picked.size > 0;
  for (const button of document.querySelectorAll("#actions button")) button.disabled = !picture && !some;
  $("undo").disabled = history_.length === 0;
  $("similar").disabled = $("open").disabled = !picture;
  $("see").disabled = !some;
  $("every").lastChild.data = some ? " None" : " All";
  const here = rows.get(chosen);
  here && $("p" + here.image) ? $("grid").setAttribute("aria-activedescendant", "p" + here.image) : $("grid").removeAttribute("aria-activedescendant");
  $("note").disabled = $("relabel").disabled = !picture && !some;
  const subject = some ? "*" : picture?.image ?? "";
  if (subject && $("note").dataset.image !== subject) { // what is being typed stays, whatever else is drawn
    $("note").dataset.image = subject;
    $("note").value = some ? "" : picture.decision?.note ?? "";
  }
  if (some) { $("about").textContent = `${picked.size} selected: decide about them together, or Escape.`; return; }
  if (!picture) { $("about").textContent = "Choose a picture."; return; }
  const { decision } = picture;
  const sure = picture.probability === null ? "" : `, model says ${picture.prediction} (${picture.probability.toFixed(2)})`;
  const by = decision ? `; ${decisionText(picture)}${decision.by ? " by " + decision.by : ""}${decision.note ? ": " + decision.note : ""}`
    : picture.finding ? `; clean: ${picture.finding}` : "";
  const place = mapIsOpen() ? "" : `${chosen + 1}/${list.total} `;
  $("about").textContent = `${place}${[picture.label, picture.split].filter(Boolean).join(", ")}${sure}${by}`;
}

function choose(i) {
  chosen = Math.max(0, Math.min(list.total - 1, i));
  const row = side + CAPTION + GAP, top = Math.floor(chosen / columns) * row, view = $("scroll");
  if (top < view.scrollTop) view.scrollTop = top;
  if (top + row + GAP > view.scrollTop + view.clientHeight) view.scrollTop = top + row + GAP - view.clientHeight;
  draw();
}

// --- deciding ---

function decide(action, label = "") {
  const images = targets(), many = picked.size > 0;
  if (!images.length) return;
  send("api/decide", { images, action, label, note: $("note").value }, (change) => {
    history_.push({ images: change.images, before: change.before, now: change.now });
    remember();
    if (many) { for (const image of images) picked.delete(image); anchor = null; }
  });
  if (!many && !mapIsOpen() && $("show").value === "all") choose(chosen + 1);
}

// The last undo steps that the browser has room for.
function remember() {
  for (let count = 500; count >= 1; count = Math.floor(count / 2)) {
    try {
      return sessionStorage.setItem("undo", JSON.stringify(history_.slice(-count)));
    } catch {
      continue;
    }
  }
}

// The classes that a text may mean: the one of this name, or those that begin with it, or those that hold it.
function meant(text) {
  const names = state.classes.map((name) => [name, name.toLowerCase()]), low = text.toLowerCase();
  const ways = [([name]) => name === text, ([, name]) => name === low, ([, name]) => name.startsWith(low), ([, name]) => name.includes(low)];
  return (ways.map((fits) => names.filter(fits)).find((found) => found.length) ?? []).map(([name]) => name);
}

function relabel() {
  const text = $("relabel").value.trim(), found = meant(text);
  if (!text) return;
  if (found.length !== 1) {
    const more = found.length > 4 ? ` and ${found.length - 4} more` : "";
    say(found.length ? `${found.length} classes fit “${text}”: ${found.slice(0, 4).join(", ")}${more}. Type more of the name.` : `No class is called “${text}”.`);
    return;
  }
  decide("relabel", found[0]);
  leaveRelabel();
}

function leaveRelabel() {
  $("relabel").value = "";
  say("");
  home();
}

const home = () => $(mapIsOpen() ? "map" : "grid").focus();

function undo() {
  sending.then(() => {
    const last = history_.pop();
    if (!last) return;
    remember();
    send("api/undo", last, (change) => {
      if (!mapIsOpen()) arrange(change.images[0]).then(() => choose(chosen));
    });
  });
}

// One after another, in the order of the clicks; the page shows a decision only once the server has written it.
function send(path, body, then) {
  sending = sending.then(async () => {
    try {
      const change = await call(path, body), changed = new Set(change.images);
      for (const picture of [...rows.values(), atlas.row])
        if (changed.has(picture?.image)) picture.decision = change.now[picture.image] ?? null;
      Object.assign(state, change.status);
      if (changed.has($("note").dataset.image)) delete $("note").dataset.image;
      then(change);
      say("");
      tell();
      $("show").value === "all" || list.names || mapIsOpen() ? draw() : arrange(rows.get(chosen)?.image ?? "");
      drawMap();
    } catch (error) {
      say(`Not saved: ${error instanceof TypeError ? "the server does not answer. Start it again, then decide again." : error.message}`);
      draw();
    }
  });
}

// What the decisions lead to, and the command for it.
function tell() {
  $("said").textContent = state.next;
  $("command").textContent = state.command;
  $("next").hidden = !state.next;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(state.command);
  } catch { // only localhost and https have a clipboard
    const area = Object.assign(document.createElement("textarea"), { value: state.command });
    $("next").append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $("said").textContent = "Copied: " + state.command;
}

// Decisions that others make show up by themselves; so does a file that cannot be read, until it is put right.
async function refresh() {
  if (document.hidden) return;
  try {
    await sending;
    if (broken) return await load();
    const status = await call("api/status");
    if (status.version !== state.version) return await load();
    if (status.decisions === state.decisions) return;
    Object.assign(state, status);
    tell();
    await arrange(rows.get(chosen)?.image ?? "");
  } catch (error) {
    if (error.status) stop(error.message); // otherwise the server is away: the next decision says so
  }
}

// Nothing can be decided while a file is not understood: the page shows why instead of the pictures.
function stop(message) {
  broken = true;
  closeMap();
  $("problem").textContent = message;
  $("problem").hidden = false;
  $("grid").hidden = $("empty").hidden = $("classwide").hidden = $("next").hidden = true;
  for (const each of document.querySelectorAll("footer button, footer input, header select, header button")) each.disabled = true;
  $("about").textContent = "Nothing can be decided until this is put right.";
  $("count").textContent = "";
}

function press(event) {
  if (broken || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT" || $("closer").open) return;
  if (event.target === $("note")) {
    const decision = picked.size ? null : focused()?.decision;
    if (event.key === "Enter" && decision) decide(decision.action, decision.label);
    if (event.key === "Enter" || event.key === "Escape") home();
    return;
  }
  if (event.target === $("relabel")) {
    if (event.key === "Enter") relabel();
    if (event.key === "Escape") leaveRelabel();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onButton = event.target.tagName === "BUTTON";
  if (onButton && (key === "Enter" || key === " ")) return;
  if (waiting) { // a key is about the list that the eye will see
    if (key.length === 1 || /^(Arrow|Home|End|Enter|Delete|Escape)/.test(key)) event.preventDefault();
    arranging.then(() => press(event));
    return;
  }
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -list.total, End: list.total };
  if (mapIsOpen() && pressOnMap(event, key)) ;
  else if (key in steps && !mapIsOpen()) {
    if (event.shiftKey) pickRange(Math.max(0, Math.min(list.total - 1, chosen + steps[key])));
    else { anchor = null; choose(chosen + steps[key]); }
  } else if (key === " ") { if (focused()) { anchor = null; pick([focused().image]); } }
  else if (key === "a") pickAll();
  else if (key === "s") similar();
  else if (key === "m") toggleMap();
  else if (key === "y") { if (state.command) copy(); }
  else if (key === "k") decide("keep");
  else if (key === "d" || key === "Delete") decide("delete");
  else if (key === "c") decide("");
  else if (key === "u") undo();
  else if (key === "n") $("note").focus();
  else if (key === "r" && !$("relabel").hidden) $("relabel").focus();
  else if (key === "Enter") closer();
  else if (key === "Escape") picked.size ? clearPicked() : mapIsOpen() ? closeMap() : list.names ? back() : say("");
  else if (/^[1-9]$/.test(key) && state.classes[key - 1]) decide("relabel", state.classes[key - 1]);
  else return;
  event.preventDefault();
}

function closer() {
  const picture = focused();
  if (!picture) return;
  $("large").src = "picture/" + picture.image;
  $("large").alt = picture.label;
  $("closer").showModal();
}

function options(select, values, all) {
  const now = select.value;
  select.replaceChildren(...(all ? [new Option(all, "")] : []), ...values.map((value) => (Array.isArray(value) ? new Option(value[1], value[0]) : new Option(value, value))));
  if ([...select.options].some((option) => option.value === now)) select.value = now;
}

async function load() {
  Object.assign(state, await call("api/state"));
  broken = false;
  $("problem").hidden = true;
  $("grid").hidden = mapIsOpen();
  for (const each of document.querySelectorAll("footer button, footer input, header select, header button")) each.disabled = false;
  if (list.names) back();
  picked = new Set(); // the pictures may be others
  document.title = state.title + " · pawprint";
  $("title").textContent = state.title;
  options($("label"), state.classes, "all classes");
  options($("split"), state.splits, "all splits");
  $("split").parentElement.hidden = !state.splits.length;
  options($("order"), state.orders);
  for (const [id, value] of new URLSearchParams(location.hash.slice(1)))
    if ($(id) && [...$(id).options ?? []].some((option) => option.value === value)) $(id).value = value;
  $("classes").replaceChildren(...state.classes.slice(0, DIGITS).map((name, i) => {
    const button = Object.assign(document.createElement("button"), { title: name });
    Object.assign(button.dataset, { action: "relabel", label: name });
    button.append(Object.assign(document.createElement("kbd"), { textContent: i + 1 }), " → " + name);
    return button;
  }));
  $("relabel").hidden = state.classes.length <= DIGITS;
  $("names").replaceChildren(...($("relabel").hidden ? [] : state.classes).map((name) => new Option(name, name)));
  tell();
  await arrange(rows.get(chosen)?.image);
  if (document.activeElement === document.body) home();
}

async function start() {
  for (const id of ["label", "split", "order", "show"])
    $(id).addEventListener("change", () => { $("scroll").scrollTop = 0; anchor = null; arrange(); drawMap(); });
  $("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(layout).observe($("scroll"));
  $("grid").addEventListener("click", (event) => {
    const tile = event.target.closest("li");
    if (!tile) return;
    const i = Number(tile.getAttribute("aria-posinset")) - 1;
    if (event.shiftKey) return pickRange(i);
    anchor = null;
    if (event.ctrlKey || event.metaKey || $("pick").getAttribute("aria-pressed") === "true") pick([tile.dataset.image]);
    else if (picked.size) clearPicked();
    choose(i);
  });
  $("grid").addEventListener("dblclick", closer);
  $("actions").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.id === "undo") undo();
    else if (button?.id === "open") closer();
    else if (button) decide(button.dataset.action, button.dataset.label);
  });
  for (const [id, act] of Object.entries({ similar, every: pickAll, pick: toggleSelecting, mapped: toggleMap, copy, back }))
    $(id).addEventListener("click", act);
  $("relabel").addEventListener("input", (event) => { // a name that is chosen from the list needs no Enter
    say("");
    if (event.inputType === "insertReplacementText" && state.classes.includes($("relabel").value)) relabel();
  });
  $("shut").addEventListener("click", () => $("closer").close());
  document.addEventListener("keydown", press);
  addEventListener("focus", refresh);
  setInterval(refresh, 3000);
  startMap();
  try {
    await load();
  } catch (error) {
    stop(error.status ? error.message : "The server does not answer. Start it again, then reload this page.");
  }
}
addEventListener("DOMContentLoaded", start);
