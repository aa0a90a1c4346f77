"use strict";
// The page sends one picture at a time and shows the answer; it keeps nothing.
const SHOWN = 5; // of the classes
const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
let about = { classes: [], max_bytes: Infinity };
let shown = null; // the file whose picture the page shows
let asked = 0; // the last question: an answer that is overtaken by another is not shown

async function ask(file) {
  if (!file) return;
  const number = ++asked;
  show(file);
  if (file.size > about.max_bytes) return refuse(`The picture is larger than ${about.max_bytes / 1e6} MB.`);
  $("problem").hidden = true;
  $("result").hidden = false;
  $("result").classList.add("asking");
  $("answer").textContent = "Looking …";
  let response, answer;
  try {
    response = await fetch("predict", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    answer = await response.json();
  } catch {
    if (number === asked) refuse("The server does not answer. Is it running? Then try again.");
    return;
  }
  if (number !== asked) return;
  if (response.ok) tell(answer);
  else refuse(answer.error[0].toUpperCase() + answer.error.slice(1) + ".");
}

function show(file) {
  shown = file;
  paint(file);
}

function paint(content) {
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(content);
  fill(true);
}

// The browser cannot show this format, such as HEIC: the server makes a JPEG of it.
async function borrow() {
  const file = shown;
  shown = null; // a JPEG that cannot be shown either is not asked for again
  fill(false);
  if (!file || file.size > about.max_bytes) return;
  try {
    const response = await fetch("preview", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    if (response.ok && shown === null) paint(await response.blob());
  } catch { /* the question to the model says that the server does not answer */ }
}

function fill(full) {
  $("preview").hidden = !full;
  $("hint").hidden = full;
  $("drop").classList.toggle("full", full);
  $("choose").textContent = full ? "Choose another" : "Choose a picture";
}

function refuse(message) {
  $("result").hidden = true;
  $("problem").textContent = message;
  $("problem").hidden = false;
}

function tell(answer) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  $("answer").replaceChildren(answer.none ? "None of these" : answer.label, " ");
  $("answer").append(small(answer.none ? "it is unlike all that the model learnt from" : percent(answer.probability)));
  $("shares").replaceChildren(...ranked.slice(0, SHOWN).map(bar));
  const more = ranked.length - SHOWN;
  $("rest").textContent = more > 0 ? `and ${more} ${more === 1 ? "class" : "classes"} less likely` : "";
  $("result").classList.toggle("none", answer.none);
  $("result").classList.remove("asking");
}

function small(text) {
  return Object.assign(document.createElement("small"), { textContent: text });
}

function bar([label, probability]) {
  const [item, line, track, share] = ["li", "div", "span", "span"].map((name) => document.createElement(name));
  line.append(Object.assign(document.createElement("span"), { textContent: label }), percent(probability));
  track.className = "track";
  share.className = "share";
  share.style.width = `${100 * probability}%`;
  track.append(share);
  item.append(line, track);
  return item;
}

function oneOf(classes) {
  return classes.join(", ").replace(/, ([^,]*)$/, " or $1");
}

async function start() {
  const response = await fetch("model");
  about = await response.json();
  const few = about.classes.length < 6 && oneOf(about.classes).length < 60;
  $("title").textContent = few ? oneOf(about.classes) + "?" : "What is it?";
  $("classes").textContent = few ? "" : `one of ${about.classes.length} classes`;
  $("classes").hidden = few;
  $("kept").textContent = about.keeps_pictures ? "This server keeps the pictures that it is sent."
    : "Your picture is sent to this server, which keeps no copy of it.";
}

$("choose").addEventListener("click", () => $("file").click());
for (const id of ["file", "camera"])
  $(id).addEventListener("change", (event) => { ask(event.target.files[0]); event.target.value = ""; });
document.addEventListener("paste", (event) => ask(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  ask(event.dataTransfer.files[0]);
});
$("preview").addEventListener("error", borrow);
start().catch(() => refuse("The server does not answer. Is it running? Then reload this page."));
