// Asks the model in the browser: the same squares and the same answers as predict.py, by onnxruntime-web.
import * as ort from "./onnxruntime.js";
import { prepare, reduce, toSquare } from "./pillow.js";

const STRIP = 4e6; // pixels that are read at a time: phones have no memory for a whole photo as numbers
let config, session, known, loading;
let line = Promise.resolve(); // the runtime answers one question at a time

async function fetched(name) {
  const response = await fetch(name).catch(() => null);
  if (!response?.ok) throw new Error(`${name} cannot be loaded. Is there a network? Then reload this page.`);
  return response;
}

// What the model and the page are like; the model is there when this is answered.
export const load = () => (loading ??= start());

async function start() {
  config = await (await fetched("model.json")).json();
  known = config.explains ? await (await fetched("nearest.json")).json() : {};
  const content = ["onnxruntime.wasm", "model.onnx"].map(async (name) => (await fetched(name)).arrayBuffer());
  const [runtime, model] = await Promise.all(content);
  ort.env.wasm.wasmBinary = runtime;
  ort.env.wasm.numThreads = 1; // more need headers that not every host of static pages sends
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const kept = "Your picture stays on this device: the model runs in this page.";
  return { ...config, kept, offline: keep() };
}

// Keep the page for when there is no network; what the page says then. Browsers allow it over https, and here.
async function keep() {
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    return "The page works offline now.";
  } catch {
    return "";
  }
}

// The answer about a file. An error says what people can do.
export async function ask(file) {
  await load();
  return answer(toSquare(await open(file), config.size, config.resize, config.interpolation));
}

export const preview = async () => null; // what the browser cannot show, it cannot read
export const thumbnail = () => null; // training pictures are not published

// A file as RGB of 8 bits, upright, on white, in sRGB, scaled down as pawprint/pictures/opening.py does.
export async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This browser cannot read that as a picture. Use a JPEG, PNG or WEBP.");
  }
  const start = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const isJpeg = start[0] === 0xff && start[1] === 0xd8;
  try {
    return prepare(bitmap, config.prepare ?? {}, isJpeg, read);
  } finally {
    bitmap.close();
  }
}

// The pixels of a bitmap on white, each block of `across` x `down` merged into one, strip by strip.
function read(bitmap, across, down) {
  const { width, height } = bitmap;
  const rows = Math.max(1, Math.floor(STRIP / width / down)) * down;
  const merged = { width: Math.ceil(width / across), height: Math.ceil(height / down) };
  merged.data = new Uint8Array(merged.width * merged.height * 3);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(rows, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const { data } = context.getImageData(0, 0, width, count);
    const strip = { width, height: count, data: new Uint8Array(width * count * 3) };
    for (let from = 0, to = 0; to < strip.data.length; from += 4, to += 3) {
      strip.data[to] = data[from];
      strip.data[to + 1] = data[from + 1];
      strip.data[to + 2] = data[from + 2];
    }
    merged.data.set(reduce(strip, across, down).data, (top / down) * merged.width * 3);
  }
  return merged;
}

// The answer about a square picture, as Classifier.classify of predict.py gives it.
export async function answer(square) {
  const { size } = config;
  const pictures = new ort.Tensor("uint8", square.data, [1, size, size, 3]);
  const run = line.then(() => session.run({ pictures }));
  line = run.catch(() => {});
  const outputs = await run;
  const shares = Array.from(outputs.probabilities.data);
  const likeliest = shares.indexOf(Math.max(...shares));
  const [score] = outputs.none_score.data;
  const said = {
    label: config.classes[likeliest],
    probability: shares[likeliest],
    none: score > config.none_threshold,
    none_score: score,
    probabilities: Object.fromEntries(config.classes.map((name, i) => [name, shares[i]])),
  };
  if (outputs.maps) said.heat = heatOf(outputs.maps, likeliest);
  if (outputs.nearest)
    said.nearest = Array.from(outputs.nearest.data, (row, i) => ({
      picture: known.pictures[row],
      label: known.labels[row],
      similarity: outputs.similarity.data[i],
    }));
  return said;
}

// What each part adds to the label: 1 for the part that adds most, 0 where nothing speaks for it.
function heatOf(maps, label) {
  const [, , down, across] = maps.dims;
  const start = label * down * across;
  const heat = Array.from(maps.data.subarray(start, start + down * across), (value) => Math.max(value, 0));
  const largest = Math.max(...heat, 1e-12);
  return Array.from({ length: down }, (_, y) => heat.slice(y * across, (y + 1) * across).map((value) => value / largest));
}
