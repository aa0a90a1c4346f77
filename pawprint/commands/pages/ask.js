// Asks the server of `pawprint serve`. The static Space has a file of this name that asks the model in the browser.
const post = (path, file) =>
  fetch(path, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
let about;

// What the model and the page are like: classes, how a picture becomes square, and what the page says below.
export async function load() {
  const response = await fetch("model").catch(() => null);
  if (!response) throw new Error("The server does not answer. Is it running? Then reload this page.");
  about = await response.json();
  const kept = about.keeps_pictures ? "This server keeps the pictures that it is sent."
    : "Your picture is sent to this server, which keeps no copy of it.";
  return { ...about, kept };
}

// The answer about a file. An error says what people can do.
export async function ask(file) {
  if (about && file.size > about.max_bytes) throw new Error(`The picture is larger than ${about.max_bytes / 1e6} MB.`);
  let response, answer;
  try {
    response = await post("predict", file);
    answer = await response.json();
  } catch {
    throw new Error("The server does not answer. Is it running? Then try again.");
  }
  if (response.ok) return answer;
  throw new Error(answer.error[0].toUpperCase() + answer.error.slice(1) + ".");
}

// A JPEG of a file that the browser cannot show, such as HEIC; nothing if the server cannot either.
export async function preview(file) {
  if (!about || file.size > about.max_bytes) return null;
  const response = await post("preview", file).catch(() => null); // the question to the model says so
  return response?.ok ? response.blob() : null;
}

// The address of a training picture's thumbnail.
export const thumbnail = (name) => (about.thumbnails ? `nearest/${encodeURIComponent(name)}` : null);
