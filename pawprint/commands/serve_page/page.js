"use strict";

const $ = (id) => document.getElementById(id);
const percent = (p) => `${(100 * p).toFixed(1)} %`;

async function ask(file) {
  if (!file) return;
  const preview = $("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  $("hint").hidden = true;
  say("Looking …");
  $("bars").replaceChildren();
  try {
    const response = await fetch("predict", { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
    const answer = await response.json();
    if (!response.ok) return say(answer.error, true);
    say(answer.none ? "None of these" : `${answer.label}, ${percent(answer.probability)}`);
    $("bars").replaceChildren(...Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]).map(bar));
  } catch {
    say("The server does not answer; try again.", true);
  }
}

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

function bar([label, probability]) {
  const item = document.createElement("li"), line = document.createElement("div"), meter = document.createElement("meter");
  line.append(Object.assign(document.createElement("span"), { textContent: label }), percent(probability));
  meter.value = probability;
  meter.setAttribute("aria-label", label);
  item.append(line, meter);
  return item;
}

for (const id of ["file", "camera"]) $(id).addEventListener("change", (event) => ask(event.target.files[0]));
document.addEventListener("paste", (event) => ask([...event.clipboardData.files][0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  ask(event.dataTransfer.files[0]);
});
fetch("model").then((r) => r.json()).then((m) => { $("title").textContent = m.classes.length < 6 ? `${m.classes.join(", ").replace(/, ([^,]*)$/, " or $1")}?` : "What is it?"; });
