"use strict";
// The page keeps nothing that matters: decisions live in data/decisions.csv, the view in the address.
const $ = (id) => document.getElementById(id);
const [GAP, CAPTION] = [12, 54];
const DIGITS = 9; // classes with a button and a digit; if there are more, their names are typed
let state = { classes: [], pictures: [], decisions: {}, correlations: [] };
let shown = [], chosen = 0, columns = 1, side = 180;
const history_ = JSON.parse(sessionStorage.getItem("undo") || "[]");
let sending = Promise.resolve();
let broken = true; // nothing is loaded, or a file is not understood

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

const KEYS = {
  loss: (p) => (p.loss === null ? Infinity : -p.loss),
  score: (p) => p.score ?? Infinity,
  unsure: (p) => p.probability ?? Infinity,
  odd: (p) => (p.distance === null ? Infinity : -p.distance),
  faults: (p) => -p.severity,
  pairs: () => 0,
  name: () => 0,
};

function arrange(keep) {
  const [label, split, order, show] = ["label", "split", "order", "show"].map((id) => $(id).value);
  const key = KEYS[order];
  shown = state.pictures.filter((p) =>
    (!label || p.label === label) && (!split || p.split === split) && (order !== "pairs" || p.group) &&
    (order !== "faults" || p.faults) &&
    (show === "all" || (show === "decided") === Boolean(state.decisions[p.image])));
  const text = (p) => (order === "pairs" ? p.group : order === "name" ? p.label : "") + p.image;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  shown.sort((a, b) => compare(key(a), key(b)) || compare(text(a), text(b)));
  history.replaceState(null, "", "#" + new URLSearchParams({ label, split, order, show }));
  $("classwide").textContent = state.correlations.join(". ");
  $("classwide").hidden = order !== "faults" || !state.correlations.length;
  const found = shown.findIndex((p) => p.image === keep);
  chosen = found >= 0 ? found : Math.min(keep === undefined ? 0 : chosen, Math.max(shown.length - 1, 0));
  layout();
}

function layout() {
  if (broken) return;
  const width = $("grid").clientWidth;
  columns = Math.max(2, Math.floor((width + GAP) / (180 + GAP)));
  side = (width - GAP * (columns - 1)) / columns;
  $("grid").style.height = Math.ceil(shown.length / columns) * (side + CAPTION + GAP) + GAP + "px";
  $("empty").hidden = shown.length > 0;
  draw();
}

// Only the rows in sight, and two beyond, are in the document: thousands of pictures cost no more than a screenful.
function draw() {
  if (broken) return;
  const row = side + CAPTION + GAP, view = $("scroll");
  const first = Math.max(0, Math.floor(view.scrollTop / row) - 2) * columns;
  const last = Math.min(shown.length, (Math.ceil((view.scrollTop + view.clientHeight) / row) + 2) * columns);
  const old = new Map([...$("grid").children].map((tile) => [tile.dataset.image, tile]));
  const tiles = [];
  for (let i = first; i < last; i++) {
    const tile = old.get(shown[i].image) || makeTile(shown[i]);
    old.delete(shown[i].image);
    fill(tile, shown[i], i, row);
    if (!tile.isConnected) $("grid").append(tile);
    tiles.push(tile);
  }
  for (const tile of old.values()) tile.remove();
  tiles.forEach((tile, i) => { if ($("grid").children[i] !== tile) $("grid").insertBefore(tile, $("grid").children[i]); });
  const done = Object.keys(state.decisions).length;
  $("count").textContent = `${shown.length} of ${state.pictures.length} pictures, ${done} decided`;
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

function decisionText(picture) {
  const decision = state.decisions[picture.image];
  if (!decision) return "";
  return decision.action === "relabel" ? "→ " + decision.label : decision.action;
}

function fill(tile, picture, i, row) {
  const text = decisionText(picture), [caption, figures] = tile.querySelectorAll("span"), badge = tile.querySelector(".badge");
  Object.assign(tile.style, {
    width: side + "px", height: side + CAPTION + "px",
    left: (i % columns) * (side + GAP) + "px", top: GAP + Math.floor(i / columns) * row + "px",
  });
  tile.className = (state.decisions[picture.image]?.action || "") + (i === chosen ? " on" : "");
  tile.setAttribute("aria-selected", i === chosen);
  tile.setAttribute("aria-posinset", i + 1);
  tile.setAttribute("aria-setsize", shown.length);
  caption.textContent = picture.label + " · " + picture.split;
  const wrong = picture.prediction && picture.prediction !== picture.label;
  const said = wrong ? picture.prediction + "? " : picture.suggestion && picture.suggestion !== picture.label ? picture.suggestion + "? " : "";
  const order = $("order").value;
  figures.textContent = order === "pairs" ? "alike: " + picture.group.slice(0, 6)
    : order === "faults" ? picture.faults
    : order === "odd" && picture.distance !== null ? "distance " + picture.distance.toFixed(2)
    : said + (picture.loss === null ? "" : "loss " + picture.loss.toFixed(2));
  tile.setAttribute("aria-label", [caption.textContent, figures.textContent, text].filter(Boolean).join(", "));
  badge.textContent = text;
  badge.hidden = !text;
}

function describe() {
  const picture = shown[chosen];
  for (const button of document.querySelectorAll("#actions button")) button.disabled = !picture;
  $("undo").disabled = history_.length === 0;
  $("grid").setAttribute("aria-activedescendant", picture ? "p" + picture.image : "");
  $("note").disabled = $("relabel").disabled = !picture;
  if (!picture) { $("about").textContent = "Choose a picture."; return; }
  const decision = state.decisions[picture.image];
  if ($("note").dataset.image !== picture.image) { // what is being typed stays, whatever else is drawn
    $("note").dataset.image = picture.image;
    $("note").value = decision?.note ?? "";
  }
  const sure = picture.probability === null ? "" : `, model says ${picture.prediction} (${picture.probability.toFixed(2)})`;
  const by = decision ? `; ${decisionText(picture)}${decision.by ? " by " + decision.by : ""}${decision.note ? ": " + decision.note : ""}`
    : picture.finding ? `; clean: ${picture.finding}` : "";
  $("about").textContent = `${chosen + 1}/${shown.length} ${picture.label}, ${picture.split}${sure}${by}`;
}

function choose(i) {
  chosen = Math.max(0, Math.min(shown.length - 1, i));
  const row = side + CAPTION + GAP, top = Math.floor(chosen / columns) * row, view = $("scroll");
  if (top < view.scrollTop) view.scrollTop = top;
  if (top + row + GAP > view.scrollTop + view.clientHeight) view.scrollTop = top + row + GAP - view.clientHeight;
  draw();
}

function decide(action, label = "") {
  const picture = shown[chosen];
  if (!picture) return;
  send({ image: picture.image, action, label, note: $("note").value }, (change) => {
    history_.push({ image: change.image, before: change.before, now: change.now });
    sessionStorage.setItem("undo", JSON.stringify(history_.slice(-500)));
  });
  if ($("show").value === "all") choose(chosen + 1);
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
  $("grid").focus();
}

function undo() {
  sending.then(() => {
    const last = history_.pop();
    if (!last) return;
    sessionStorage.setItem("undo", JSON.stringify(history_));
    const { image, action, label, note, by, ...cells } = last.before || { action: "" };
    send({ image: last.image, action, label, note, by, cells, expected: last.now }, () => {
      arrange(last.image);
      choose(chosen);
    });
  });
}

// One after another, in the order of the clicks; the page shows a decision only once the server has written it.
function send(body, then) {
  sending = sending.then(async () => {
    try {
      const change = await call("api/decide", body);
      if (change.now) state.decisions[change.image] = change.now;
      else delete state.decisions[change.image];
      if ($("note").dataset.image === change.image) delete $("note").dataset.image;
      then(change);
      say("");
      $("show").value === "all" ? draw() : arrange(shown[chosen]?.image ?? "");
    } catch (error) {
      say(`Not saved: ${error instanceof TypeError ? "the server does not answer. Start it again, then decide again." : error.message}`);
      draw();
    }
  });
}

// Decisions that others make show up by themselves; so does a file that cannot be read, until it is put right.
async function refresh() {
  if (document.hidden) return;
  try {
    await sending;
    if (broken) return await load();
    const decisions = await call("api/decisions");
    if (JSON.stringify(decisions) === JSON.stringify(state.decisions)) return;
    state.decisions = decisions;
    arrange(shown[chosen]?.image ?? "");
  } catch (error) {
    if (error.status) stop(error.message); // otherwise the server is away: the next decision says so
  }
}

// Nothing can be decided while a file is not understood: the page shows why instead of the pictures.
function stop(message) {
  broken = true;
  $("problem").textContent = message;
  $("problem").hidden = false;
  $("grid").hidden = $("empty").hidden = $("classwide").hidden = true;
  for (const each of document.querySelectorAll("footer button, footer input, header select")) each.disabled = true;
  $("about").textContent = "Nothing can be decided until this is put right.";
  $("count").textContent = "";
}

function press(event) {
  if (broken || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT" || $("closer").open) return;
  if (event.target === $("note")) {
    const picture = shown[chosen], decision = picture && state.decisions[picture.image];
    if (event.key === "Enter" && decision) decide(decision.action, decision.label);
    if (event.key === "Enter" || event.key === "Escape") $("grid").focus();
    return;
  }
  if (event.target === $("relabel")) {
    if (event.key === "Enter") relabel();
    if (event.key === "Escape") leaveRelabel();
    return;
  }
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -shown.length, End: shown.length };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onButton = event.target.tagName === "BUTTON";
  if (key in steps) choose(chosen + steps[key]);
  else if (key === "k") decide("keep");
  else if (key === "d" || key === "Delete") decide("delete");
  else if (key === "c") decide("");
  else if (key === "u") undo();
  else if (key === "n") $("note").focus();
  else if (key === "r" && !$("relabel").hidden) $("relabel").focus();
  else if (key === "Enter" && !onButton) closer();
  else if (/^[1-9]$/.test(key) && state.classes[key - 1]) decide("relabel", state.classes[key - 1]);
  else return;
  event.preventDefault();
}

function closer() {
  if (!shown[chosen]) return;
  $("large").src = "picture/" + shown[chosen].image;
  $("large").alt = shown[chosen].label;
  $("closer").showModal();
}

function options(select, values, all) {
  select.replaceChildren(new Option(all, ""), ...values.map((value) => new Option(value, value)));
}

async function load() {
  state = await call("api/state");
  broken = false;
  $("problem").hidden = true;
  $("grid").hidden = false;
  for (const each of document.querySelectorAll("footer button, footer input, header select")) each.disabled = false;
  options($("label"), state.classes, "all classes");
  options($("split"), ["train", "valid", "test"].filter((s) => state.pictures.some((p) => p.split === s)), "all splits");
  for (const [id, value] of new URLSearchParams(location.hash.slice(1)))
    if ($(id) && [...$(id).options].some((option) => option.value === value)) $(id).value = value;
  $("classes").replaceChildren(...state.classes.slice(0, DIGITS).map((name, i) => {
    const button = Object.assign(document.createElement("button"), { title: name });
    Object.assign(button.dataset, { action: "relabel", label: name });
    button.append(Object.assign(document.createElement("kbd"), { textContent: i + 1 }), " → " + name);
    return button;
  }));
  $("relabel").hidden = state.classes.length <= DIGITS;
  $("names").replaceChildren(...($("relabel").hidden ? [] : state.classes).map((name) => new Option(name, name)));
  arrange();
  $("grid").focus();
}

async function start() {
  for (const id of ["label", "split", "order", "show"])
    $(id).addEventListener("change", () => { $("scroll").scrollTop = 0; arrange(); });
  $("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(layout).observe($("scroll"));
  $("grid").addEventListener("click", (event) => {
    const tile = event.target.closest("li");
    if (tile) choose(shown.findIndex((p) => p.image === tile.dataset.image));
  });
  $("grid").addEventListener("dblclick", closer);
  $("actions").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.id === "undo") undo();
    else if (button?.id === "open") closer();
    else if (button) decide(button.dataset.action, button.dataset.label);
  });
  $("relabel").addEventListener("input", (event) => { // a name that is chosen from the list needs no Enter
    say("");
    if (event.inputType === "insertReplacementText" && state.classes.includes($("relabel").value)) relabel();
  });
  $("shut").addEventListener("click", () => $("closer").close());
  document.addEventListener("keydown", press);
  addEventListener("focus", refresh);
  setInterval(refresh, 3000);
  try {
    await load();
  } catch (error) {
    stop(error.status ? error.message : "The server does not answer. Start it again, then reload this page.");
  }
}
start();
