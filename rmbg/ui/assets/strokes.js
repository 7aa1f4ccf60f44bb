// The points of a stroke that are sent.
(() => {
  const MAX_POINTS = 250; // as on the server
  // D. Douglas and T. Peucker, 1973; the tolerance grows until few enough points are left.
  const simplified = (points, tolerance) => {
    const kept = new Set([0, points.length / 2 - 1]), spans = [[0, points.length / 2 - 1]];
    while (spans.length) {
      const [first, last] = spans.pop();
      const [ax, ay, bx, by] = [...points.slice(2 * first, 2 * first + 2), ...points.slice(2 * last, 2 * last + 2)];
      const [dx, dy] = [bx - ax, by - ay], squared = dx * dx + dy * dy || 1;
      let farthest = 0, distance = tolerance;
      for (let i = first + 1; i < last; i += 1) {
        const [x, y] = [points[2 * i] - ax, points[2 * i + 1] - ay], t = Math.min(1, Math.max(0, (x * dx + y * dy) / squared));
        const away = Math.hypot(x - t * dx, y - t * dy);
        if (away > distance) [farthest, distance] = [i, away];
      }
      if (!farthest) continue;
      kept.add(farthest);
      spans.push([first, farthest], [farthest, last]);
    }
    if (kept.size > MAX_POINTS) return simplified(points, 2 * tolerance);
    return [...kept].sort((a, b) => a - b).flatMap((i) => points.slice(2 * i, 2 * i + 2));
  };
  window.rmbgSimplified = simplified;
})();
// Strokes of the brush on their way to the server, which keeps the first ones of a result and adds one with each request.
// `failed` is called if no answer comes; `rejected`, with the error message, after strokes that the server refuses are removed.
window.rmbgStrokeSync = ({ failed, rejected }) => {
  const PATIENCE = 30_000; // milliseconds until a request is given up
  const works = new Map(); // result: { result, strokes, undone, sent }
  let number = 0, sending = null;

  const common = ({ strokes, sent }) => {
    const count = strokes.findIndex((stroke, index) => stroke !== sent[index]);
    return count < 0 ? strokes.length : count;
  };
  const isPending = (work) => work.strokes.length !== work.sent.length || common(work) < work.strokes.length;
  const ask = async (message) => {
    number += 1;
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    const answer = await Promise.race([rmbgAsk("retouch-send", JSON.stringify({ number, ...message })), late]);
    if (answer.number !== number) throw new Error("The answer is an earlier one.");
    return answer;
  };
  const send = async (work) => {
    const keep = common(work), added = work.strokes.slice(keep, keep + 1);
    const { strokes, error } = await ask({ result: work.result, keep, stroke: added[0] ?? null });
    if (!error) {
      work.sent = [...work.sent.slice(0, keep), ...added];
      return;
    }
    work.sent = work.sent.slice(0, strokes ?? 0);
    work.strokes = [...work.sent];
    work.undone = [];
    rejected(error);
  };
  const sendAll = async () => {
    try {
      for (let next; (next = [...works.values()].find(isPending)); ) await send(next);
    } catch {
      failed();
    }
  };
  const flush = () => {
    sending ??= sendAll().finally(() => (sending = null));
    return sending;
  };
  // The strokes of a result; `strokes` are those of the server when it is seen first.
  const load = ({ result, strokes }) => {
    if (!works.has(result)) works.set(result, { result, strokes: [...strokes], undone: [], sent: [...strokes] });
    return works.get(result);
  };
  return { load, flush, pending: () => [...works.values()].some(isPending) };
};
// Strokes of the brush in the viewer, on a canvas over the cutout without strokes; rmbg/matting/retouch.py draws the same at full size.
window.rmbgStrokeCanvas = ({ viewer, scene, view, mapping }) => {
  const SOFTNESS = 0.3, LEAST_RAMP = 1; // width of the soft edge, as on the server
  const STEPS = 8; // of the soft edge
  const GHOST = 0.35; // opacity of the removed parts while the brush keeps

  // Layers of the size of the stage.
  const layer = () => document.createElement("canvas").getContext("2d");
  const canvas = document.createElement("canvas");
  const screen = canvas.getContext("2d"), photo = layer(), base = layer(), mask = layer();
  canvas.className = "retouch";
  canvas.hidden = true;
  let settled = false; // the layer of the finished strokes is up to date

  const density = () => Math.min(devicePixelRatio, 2);
  const place = (context) => {
    const { scaleX, scaleY, left, top } = mapping(), d = density();
    context.setTransform(scaleX * d, 0, 0, scaleY * d, left * d, top * d);
    context.imageSmoothingEnabled = scaleX < 3;
  };
  const clear = (context) => {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
  };
  const drawPictures = (context, selector) => {
    clear(context);
    place(context);
    const [width, height] = scene().full;
    const [picture, detail] = viewer().querySelectorAll(`${selector} img`);
    const isLoaded = (image) => !image.hidden && image.complete && image.naturalWidth > 0;
    if (isLoaded(detail)) {
      const [x, y, w, h] = ["left", "top", "width", "height"].map((name) => parseFloat(detail.style[name]) / 100);
      context.drawImage(detail, x * width, y * height, w * width, h * height);
    } else if (isLoaded(picture)) context.drawImage(picture, 0, 0, width, height);
  };
  const drawMask = (strokes, color) => {
    clear(mask);
    place(mask);
    Object.assign(mask, { lineCap: "round", lineJoin: "round", strokeStyle: color, globalAlpha: 1 / STEPS });
    mask.globalCompositeOperation = "lighter";
    for (const { radius, points } of strokes) {
      const path = new Path2D(), ramp = Math.max(LEAST_RAMP, SOFTNESS * radius);
      path.moveTo(points[0], points[1]);
      path.lineTo(points[0] + 0.01, points[1]); // a dot, if there is one point
      for (let i = 2; i < points.length; i += 2) path.lineTo(points[i], points[i + 1]);
      for (let step = 0; step < STEPS; step += 1) {
        mask.lineWidth = Math.max(0.1, 2 * radius + ramp * ((2 * step + 1) / STEPS - 1));
        mask.stroke(path);
      }
    }
    Object.assign(mask, { globalAlpha: 1, globalCompositeOperation: "source-over" });
  };
  const over = (context, source, operation = "source-over", opacity = 1) => {
    context.setTransform(1, 0, 0, 1, 0, 0);
    Object.assign(context, { globalCompositeOperation: operation, globalAlpha: opacity });
    context.drawImage(source.canvas, 0, 0);
    Object.assign(context, { globalCompositeOperation: "source-over", globalAlpha: 1 });
  };
  const apply = (context, strokes) => {
    const keeps = strokes[0].mode === "keep", isMask = view() === "mask";
    drawMask(strokes, keeps ? "white" : "black");
    if (keeps && !isMask) over(mask, photo, "source-in");
    over(context, mask, keeps || isMask ? "source-over" : "destination-out");
  };
  const applyAll = (context, strokes) => {
    for (let start = 0, end; start < strokes.length; start = end) {
      for (end = start + 1; strokes[end]?.mode === strokes[start].mode; ) end += 1;
      apply(context, strokes.slice(start, end));
    }
  };
  // Draws the finished strokes and the active one; `ghost`: with the photo behind it.
  const draw = (strokes, active, ghost) => {
    const stage = viewer().querySelector(".stage"), composed = view() !== "original";
    canvas.hidden = !composed;
    stage.classList.toggle("composed", composed);
    if (!composed) return;
    const size = [stage.clientWidth, stage.clientHeight].map((side) => Math.max(1, Math.round(side * density())));
    if (String(size) !== String([canvas.width, canvas.height])) {
      for (const context of [screen, photo, base, mask]) [context.canvas.width, context.canvas.height] = size;
      settled = false;
    }
    if (!settled) {
      drawPictures(photo, ".before-layer");
      drawPictures(base, ".layer:not(.before-layer)");
      applyAll(base, strokes);
      settled = true;
    }
    clear(screen);
    over(screen, base);
    if (active) apply(screen, [active]);
    if (ghost && view() === "cutout") over(screen, photo, "destination-over", GHOST);
  };
  return { canvas, draw, invalidate: () => (settled = false) };
};
