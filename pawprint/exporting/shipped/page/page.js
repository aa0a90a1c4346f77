// The page of `pawprint serve` and of the static Space. It asks about one picture at a time and keeps nothing.
import { ask, load, preview, thumbnail } from "./ask.js";

const SHOWN = 5; // of the classes
const SIDE = 224; // pixels a side of the picture that shows where the model looked
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // as in predict.py
const $ = (id) => document.getElementById(id);
const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
let about = null;
let shown = null; // the file whose picture the page shows
let why = null; // the answer, for as long as it is not drawn where the model looked
let asked = 0; // the last question: an answer that is overtaken by another is not shown

async function answerAbout(file) {
  if (!file) return;
  const number = ++asked;
  closeCamera();
  show(file);
  $("problem").hidden = true;
  $("result").hidden = false;
  $("result").classList.add("asking");
  $("answer").textContent = "Looking …";
  try {
    const [answer] = await Promise.all([ask(file), loaded]);
    if (number === asked) tell(answer);
  } catch (error) {
    if (number === asked) refuse(error.message);
  }
}

function show(file) {
  shown = file;
  why = null;
  paint(file);
}

function paint(content) {
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(content);
  fill(true);
}

// The browser cannot show this format.
async function borrow() {
  const file = shown;
  shown = null; // a picture that cannot be shown either is not asked for again
  fill(false);
  const content = file && (await preview(file));
  if (content && shown === null) paint(content);
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
  explain(answer);
}

function small(text) {
  return make("small", { textContent: text });
}

function bar([label, probability]) {
  const [item, line, track, share] = ["li", "div", "span", "span"].map((name) => make(name));
  line.append(make("span", { textContent: label }), percent(probability));
  track.className = "track";
  share.className = "share";
  share.style.width = `${100 * probability}%`;
  track.append(share);
  item.append(line, track);
  return item;
}

// --- why it said so ---

function explain(answer) {
  $("looked").hidden = true;
  $("nearest").hidden = !answer.nearest;
  if (answer.nearest) $("like").replaceChildren(...answer.nearest.map(neighbour));
  why = answer.heat ? answer : null;
  drawLook();
}

function neighbour({ picture, label, similarity }) {
  const item = make("li");
  const address = thumbnail(picture);
  if (address) item.append(make("img", { src: address, alt: "", width: 72, height: 72, loading: "lazy" }));
  const text = make("span");
  text.append(label, " ", small(`${similarity.toFixed(2)} ${picture}`));
  item.append(text);
  return item;
}

// Drawn when both are there, the answer and the picture.
function drawLook() {
  const picture = $("preview");
  if (!why || picture.hidden || !picture.complete || !picture.naturalWidth) return;
  const { heat, label } = why;
  why = null;
  const canvas = $("look");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  const how = about.prepare && about.prepare.resize !== "shrink" ? about.prepare.resize : about.resize;
  const side = Math.min(width, height);
  const scale = SIDE / Math.max(width, height);
  if (how === "crop") context.drawImage(picture, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  else if (how === "squish") context.drawImage(picture, 0, 0, SIDE, SIDE);
  else {
    context.fillRect(0, 0, SIDE, SIDE);
    const [across, down] = [width * scale, height * scale];
    context.drawImage(picture, (SIDE - across) / 2, (SIDE - down) / 2, across, down);
  }
  const pixels = context.getImageData(0, 0, SIDE, SIDE);
  const levels = smooth(heat);
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i];
    const share = 0.25 + 0.4 * level;
    const place = Math.min(HEAT.length - 2, Math.floor(level * (HEAT.length - 1)));
    const part = level * (HEAT.length - 1) - place;
    for (let c = 0; c < 3; c++) {
      const colour = HEAT[place][c] * (1 - part) + HEAT[place + 1][c] * part;
      pixels.data[4 * i + c] = pixels.data[4 * i + c] * (1 - share) + colour * share;
    }
  }
  context.putImageData(pixels, 0, 0);
  canvas.setAttribute("aria-label", `Where the model looked: bright parts speak for ${label}`);
  $("label").textContent = label;
  $("looked").hidden = false;
}

// Heat of h x w places as SIDE x SIDE levels of 0 to 1.
function smooth(heat) {
  const [down, across] = [heat.length, heat[0].length];
  const few = make("canvas", { width: across, height: down });
  const image = new ImageData(across, down);
  heat.flat().forEach((level, i) => image.data.set([255 * level, 0, 0, 255], 4 * i));
  few.getContext("2d").putImageData(image, 0, 0);
  const many = make("canvas", { width: SIDE, height: SIDE }).getContext("2d", { willReadFrequently: true });
  many.drawImage(few, 0, 0, SIDE, SIDE);
  const { data } = many.getImageData(0, 0, SIDE, SIDE);
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i] / 255);
}

// --- the camera ---

async function openCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("video").srcObject = stream;
    $("viewfinder").hidden = false;
    $("shoot").focus();
  } catch {
    refuse("The camera cannot be used: there is none, or this page may not use it.");
  }
}

function closeCamera() {
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("viewfinder").hidden = true;
}

async function shoot() {
  const { videoWidth: width, videoHeight: height } = $("video");
  if (!width) return; // no picture has come yet
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  closeCamera();
  answerAbout(await new Promise((resolve) => canvas.toBlob(resolve)));
}

// --- the page ---

function oneOf(classes) {
  return classes.join(", ").replace(/, ([^,]*)$/, " or $1");
}

async function start() {
  about = await load();
  const few = about.classes.length < 6 && oneOf(about.classes).length < 60;
  $("title").textContent = few ? oneOf(about.classes) + "?" : "What is it?";
  $("classes").textContent = few ? "" : `one of ${about.classes.length} classes`;
  $("classes").hidden = few;
  $("kept").textContent = about.kept;
  about.offline?.then((text) => { $("kept").textContent += ` ${text}`; });
}

$("choose").addEventListener("click", () => $("file").click());
for (const id of ["file", "camera"])
  $(id).addEventListener("change", (event) => { answerAbout(event.target.files[0]); event.target.value = ""; });
document.addEventListener("paste", (event) => answerAbout(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  answerAbout(event.dataTransfer.files[0]);
});
$("preview").addEventListener("error", borrow);
$("preview").addEventListener("load", drawLook);
$("live").hidden = !navigator.mediaDevices?.getUserMedia;
$("live").addEventListener("click", openCamera);
$("shoot").addEventListener("click", shoot);
$("close").addEventListener("click", () => { closeCamera(); $("live").focus(); });
const loaded = start();
loaded.catch((error) => refuse(error.message));
