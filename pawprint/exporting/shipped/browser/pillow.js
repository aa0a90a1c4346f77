// Scaling pictures as Pillow does, to the same bytes: https://pillow.readthedocs.io, Image.resize and Image.reduce.
// A picture is { width, height, data }, with 3 bytes a pixel: red, green, blue.
const BITS = 22; // of a weight's fraction, as in Pillow for 8 bits

// support in pixels, and weight by distance
const FILTERS = {
  bilinear: [1, (x) => (x < 1 ? 1 - x : 0)],
  hamming: [1, (x) => (x === 0 ? 1 : x >= 1 ? 0 : (Math.sin(Math.PI * x) / (Math.PI * x)) * (0.54 + 0.46 * Math.cos(Math.PI * x)))],
  bicubic: [2, (x) => {
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
  }],
};

// For each place of a side: the first place that it is made from, and the weights from there on.
function weightsOf(from, start, end, to, [support, filter]) {
  const scale = Math.fround(end - start) / to;
  const wide = Math.max(scale, 1);
  const reach = support * wide;
  return Array.from({ length: to }, (_, place) => {
    const centre = start + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(from, Math.trunc(centre + reach + 0.5));
    const exact = Array.from({ length: last - first }, (_, i) => filter(Math.abs((i + first - centre + 0.5) * (1 / wide))));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const weights = exact.map((weight) => (sum === 0 ? weight : weight / sum) * 2 ** BITS);
    return [first, Int32Array.from(weights, (weight) => Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5))];
  });
}

const clip = (sum) => Math.min(255, Math.max(0, sum >> BITS));

// A picture as `width` x `height`; box: what of it, [left, top, right, bottom].
export function resize(image, width, height, name, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const whole = left === 0 && top === 0 && right === image.width && bottom === image.height;
  if (whole && width === image.width && height === image.height) return image;
  let now = image;
  if (width !== image.width || left !== 0 || right !== width) {
    const columns = weightsOf(image.width, left, right, width, FILTERS[name]);
    const data = new Uint8Array(width * image.height * 3);
    for (let y = 0, to = 0; y < image.height; y++)
      for (const [first, weights] of columns)
        for (let c = 0; c < 3; c++) {
          let sum = 1 << (BITS - 1);
          let from = (y * image.width + first) * 3 + c;
          for (const weight of weights) {
            sum += image.data[from] * weight;
            from += 3;
          }
          data[to++] = clip(sum);
        }
    now = { width, height: image.height, data };
  }
  if (height === image.height && top === 0 && bottom === height) return now;
  const rows = weightsOf(image.height, top, bottom, height, FILTERS[name]);
  const data = new Uint8Array(width * height * 3);
  let to = 0;
  for (const [first, weights] of rows)
    for (let x = 0; x < 3 * width; x++) {
      let sum = 1 << (BITS - 1);
      let from = first * 3 * width + x;
      for (const weight of weights) {
        sum += now.data[from] * weight;
        from += 3 * width;
      }
      data[to++] = clip(sum);
    }
  return { width, height, data };
}

// Each block of `across` x `down` pixels merged into its mean.
export function reduce(image, across, down) {
  if (across === 1 && down === 1) return image;
  const width = Math.ceil(image.width / across);
  const height = Math.ceil(image.height / down);
  const data = new Uint8Array(width * height * 3);
  let to = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const [right, bottom] = [Math.min(image.width, (x + 1) * across), Math.min(image.height, (y + 1) * down)];
      const count = (right - x * across) * (bottom - y * down);
      const factor = Math.floor(2 ** 32 / (256 * count));
      for (let c = 0; c < 3; c++) {
        let sum = Math.floor(count / 2);
        for (let row = y * down; row < bottom; row++)
          for (let column = x * across; column < right; column++) sum += image.data[(row * image.width + column) * 3 + c];
        data[to++] = Math.floor((sum * factor) / 2 ** 24);
      }
    }
  return { width, height, data };
}

// To the nearest integer, halves to the even one, as Python rounds.
export function round(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

// The middle of a picture as a square, as ImageOps.fit cuts it.
function fit(image, side, name) {
  const least = Math.min(image.width, image.height);
  const [left, top] = [(image.width - least) * 0.5, (image.height - least) * 0.5];
  return resize(image, side, side, name, [left, top, left + least, top + least]);
}

// A picture in the middle of a black square.
function pad(image, side) {
  const data = new Uint8Array(side * side * 3);
  const [left, top] = [Math.floor((side - image.width) / 2), Math.floor((side - image.height) / 2)];
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(y * image.width * 3, (y + 1) * image.width * 3);
    data.set(row, ((top + y) * side + left) * 3);
  }
  return { width: side, height: side, data };
}

// As open_picture of pawprint/pictures/opening.py prepares a picture: scaled down, as `how` says.
// source: with width and height; read: gives its pixels, merged by the factors across and down.
export function prepare(source, how, isJpeg, read) {
  const { resize: form = "shrink", max_size: most = 0, max_pixels = 1e8 } = how;
  const { width, height } = source;
  if (width * height > max_pixels) throw new Error(`The picture has more than ${max_pixels / 1e6} megapixels.`);
  if (!most) return read(source, 1, 1);

  // a JPEG is decoded at a half, a quarter or an eighth of its size if that is enough
  const least = form === "shrink" || form === "pad" ? Math.max(width, height) : Math.min(width, height);
  const enough = Math.min(1, most / least);
  const room = Math.min(...[width, height].map((side) => Math.floor(side / Math.max(1, Math.ceil(side * enough)))));
  const draft = isJpeg ? [8, 4, 2, 1].find((factor) => room >= factor) : 1;
  if (form === "crop") return fit(read(source, draft, draft), Math.min(most, width, height), "hamming");

  const longer = Math.max(width, height);
  const side = Math.min(most, longer);
  const scaled = [width, height].map((each) => Math.max(1, round(each * (side / longer))));
  const size = form === "squish" ? [side, side] : scaled;
  const decoded = [width, height].map((each) => Math.ceil(each / draft));
  const [across, down] = decoded.map((each, i) => Math.max(1, Math.trunc(each / size[i] / 2)));
  let image = draft === 1 ? read(source, across, down) : reduce(read(source, draft, draft), across, down);
  if (size[0] !== decoded[0] || size[1] !== decoded[1])
    image = resize(image, ...size, "hamming", [0, 0, decoded[0] / across, decoded[1] / down]);
  return form === "pad" ? pad(image, side) : image;
}

// As to_square of pawprint/pictures/square.py: `squish` both sides, `crop` the middle, or `pad` with black.
export function toSquare(image, size, form, interpolation) {
  if (form === "squish") return resize(image, size, size, interpolation);
  if (form === "crop") return fit(image, size, interpolation);
  const scale = size / Math.max(image.width, image.height);
  const sides = [image.width, image.height].map((each) => Math.max(1, round(each * scale)));
  return pad(resize(image, ...sides, interpolation), size);
}
