// The retouch tools: strokes of a brush on the result. They are drawn here at once, over the cutout without strokes, and sent to
// the server one after another; rmbg/matting/retouch.py draws the same at full size.
(() => {
  const root = document.documentElement;
  const { viewer, say, scene, view, edit, mapping } = window.rmbgViewer;
  const SOFTNESS = 0.3, LEAST_RAMP = 1; // width of the soft edge, as on the server
  const STEPS = 8; // of the soft edge
  const MAX_POINTS = 250, MAX_STROKES = 400;
  const GHOST = 0.35; // opacity of the removed parts while the brush keeps
  const PATIENCE = 30_000; // milliseconds until a request is given up
  const FIELDS = "textarea, select, [contenteditable=true], input:not([type=range], [type=radio], [type=checkbox], [type=color])";
  const WAITS = "#retouch-done, #save, #strip-zip, [data-viewer=copy]"; // need the strokes on the server
  const PICKS = ["subject", "background"]; // modes in which a click sends the point to SAM 2
  const NOT_SENT = rmbgText("The retouching could not be saved. Check the connection; the next stroke tries again.");

  const works = new Map(); // result: { result, strokes, undone, sent }
  let work = null; // of the result in the viewer
  let open = false, frozen = false; // frozen: closed, until the pictures of the server are loaded
  let active = null, pressed = new Set(), pinching = false, panning = false;
  const CLICK = 6; // pixels that the pointer of a click may move
  let picking = null, picked = ""; // the event that began a click, and the point that was sent
  let request = null, number = 0, sending = null, frame = 0, settled = false;

  const field = (name) => document.querySelector(`#retouch-${name}`);
  const mode = () => field("mode")?.querySelector("input:checked")?.value ?? "keep";
  const slider = () => field("size").querySelector("input[type=range]");
  const stageOf = (event) => event.target.closest?.("#result .viewer[data-scene] .stage");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // Requests: the server keeps the first strokes and adds one.
  const common = ({ strokes, sent }) => {
    const count = strokes.findIndex((stroke, index) => stroke !== sent[index]);
    return count < 0 ? strokes.length : count;
  };
  const isPending = (work) => work.strokes.length !== work.sent.length || common(work) < work.strokes.length;
  const ask = (message) => new Promise((resolve, reject) => {
    number += 1;
    request = { number, text: JSON.stringify({ number, ...message }), resolve, reject };
    setTimeout(reject, PATIENCE);
    field("send").click();
  });
  const answered = (text) => {
    try {
      const answer = JSON.parse(text);
      if (answer.number !== request.number) throw new Error("The answer is an earlier one.");
      request.resolve(answer);
    } catch (error) {
      request?.reject(error);
    }
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
    say(error);
    changed();
  };
  const sendAll = async () => {
    try {
      for (let next; (next = [...works.values()].find(isPending)); ) await send(next);
    } catch {
      say(NOT_SENT);
    }
  };
  const flush = () => {
    sending ??= sendAll().finally(() => (sending = null));
    return sending;
  };

  // The picture: layers of the size of the stage.
  const layer = () => document.createElement("canvas").getContext("2d");
  const canvas = document.createElement("canvas"), ring = document.createElement("div");
  const screen = canvas.getContext("2d"), photo = layer(), base = layer(), mask = layer();
  canvas.className = "retouch";
  ring.className = "brush-ring";
  [canvas.hidden, ring.hidden] = [true, true];

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
  const draw = () => {
    frame = 0;
    const stage = viewer()?.querySelector(".stage");
    if (!open || !stage) return;
    drawRing();
    const composed = view() !== "original";
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
      applyAll(base, work.strokes);
      settled = true;
    }
    clear(screen);
    over(screen, base);
    if (active) apply(screen, [active]);
    if (["keep", "subject"].includes(mode()) && view() === "cutout") over(screen, photo, "destination-over", GHOST);
  };
  const redraw = (again = true) => {
    if (again) settled = false;
    frame ||= requestAnimationFrame(draw);
  };
  const changed = () => {
    redraw();
    for (const [name, list] of [["undo", work?.strokes], ["clear", work?.strokes], ["redo", work?.undone]]) {
      field(name)?.setAttribute("aria-disabled", String(!list?.length));
    }
  };
  const drawRing = (event, stage) => {
    if (stage) {
      const box = stage.getBoundingClientRect();
      ring.style.left = `${event.clientX - box.left}px`;
      ring.style.top = `${event.clientY - box.top}px`;
    }
    viewer().querySelector(".stage").classList.toggle("picking", PICKS.includes(mode()));
    ring.style.width = ring.style.height = `${slider().value}px`;
    ring.dataset.mode = mode();
  };

  // Position of a pointer in pixels of the photo.
  const onPhoto = (event) => {
    const box = viewer().querySelector(".stage").getBoundingClientRect(), { scaleX, scaleY, left, top } = mapping();
    return [(event.clientX - box.left - left) / scaleX, (event.clientY - box.top - top) / scaleY];
  };

  // Objects: a click sends its point, and the answer is followed by new pictures.
  const pick = (event) => {
    const [x, y] = onPhoto(event), [width, height] = scene().full;
    if (x < 0 || y < 0 || x > width || y > height) return;
    if (picked) return say(rmbgText("The last object is still being computed."));
    picked = JSON.stringify([scene().result, mode() === "subject", x / width, y / height]);
    say(rmbgText("Finding the object…"));
    document.querySelector("#retouch-send-point").click();
  };
  const selected = (answer) => {
    picked = "";
    try {
      say(JSON.parse(answer).error);
    } catch {
      say(NOT_SENT);
    }
  };

  // Strokes
  const position = (event) => {
    const [width, height] = scene().full, margin = Math.floor(active.radius), [x, y] = onPhoto(event);
    return [clamp(x, -margin, width + margin), clamp(y, -margin, height + margin)].map((value) => Math.round(value * 10) / 10);
  };
  const begin = (event) => {
    if (PICKS.includes(mode())) return (picking = event);
    if (work.strokes.length >= MAX_STROKES) return say(rmbgText("At most {limit} strokes are possible.", { limit: MAX_STROKES }));
    const radius = clamp(slider().value / 2 / mapping().scaleX, 0.5, Math.max(...scene().full));
    active = { mode: mode(), radius: Math.max(0.5, Math.floor(radius * 100) / 100), points: [] };
    active.points.push(...position(event));
    redraw(false);
  };
  const extend = (event) => {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) {
      const [x, y] = position(each), [lastX, lastY] = active.points.slice(-2);
      if (Math.hypot(x - lastX, y - lastY) > active.radius / 20) active.points.push(x, y);
    }
    redraw(false);
  };
  const finish = () => {
    const stroke = { ...active, points: simplified(active.points, Math.max(0.1, active.radius / 40)) };
    active = null;
    work.strokes = [...work.strokes, stroke];
    work.undone = [];
    changed();
    flush();
  };
  // D. Douglas and T. Peucker, 1973; the tolerance grows until few enough points are left.
  const simplified = (points, tolerance) => {
    const kept = new Set([0, points.length / 2 - 1]), spans = [[0, points.length / 2 - 1]];
    while (spans.length) {
      const [first, last] = spans.pop();
      const [ax, ay, bx, by] = [...points.slice(2 * first, 2 * first + 2), ...points.slice(2 * last, 2 * last + 2)];
      const [dx, dy] = [bx - ax, by - ay], squared = dx * dx + dy * dy || 1;
      let farthest = 0, distance = tolerance;
      for (let i = first + 1; i < last; i += 1) {
        const [x, y] = [points[2 * i] - ax, points[2 * i + 1] - ay], t = clamp((x * dx + y * dy) / squared, 0, 1);
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
  const undo = () => {
    if (!work.strokes.length) return;
    work.undone = [...work.undone, work.strokes.at(-1)];
    work.strokes = work.strokes.slice(0, -1);
    changed();
    flush();
  };
  const redo = () => {
    if (!work.undone.length) return;
    work.strokes = [...work.strokes, work.undone.at(-1)];
    work.undone = work.undone.slice(0, -1);
    changed();
    flush();
  };
  const undoAll = () => {
    work.undone = [...work.undone, ...work.strokes.toReversed()];
    work.strokes = [];
    changed();
    flush();
  };
  const resize = (factor) => {
    const input = slider(), value = Number(input.value);
    input.value = factor > 1 ? Math.max(value + 1, value * factor) : Math.min(value - 1, value * factor);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    drawRing();
    say(`${input.value} px`);
  };

  // Opening and closing
  const setOpen = (on) => {
    open = on;
    root.toggleAttribute("data-retouch", on);
    attach();
  };
  const attach = () => {
    const node = viewer(), stage = node?.querySelector(".stage"), button = node?.querySelector("[data-viewer=retouch]");
    if (!stage) return;
    const label = field("label")?.textContent.trim();
    for (const each of label ? [button, ...document.querySelectorAll("button[data-retouch]")] : []) {
      if (each.textContent !== label) each.textContent = label;
    }
    if (button.ariaPressed !== String(open)) button.ariaPressed = String(open);
    stage.classList.toggle("retouching", open);
    if (!open && !frozen) stage.classList.remove("composed");
    if ((open || frozen) && canvas.parentElement !== stage) {
      stage.querySelector(".before-layer").before(canvas);
      stage.append(ring);
    }
  };
  const load = () => {
    const { result, strokes } = scene();
    if (!works.has(result)) works.set(result, { result, strokes: [...strokes], undone: [], sent: [...strokes] });
    work = works.get(result);
  };
  const show = () => {
    if (open || !scene()) return;
    load();
    frozen = false;
    setOpen(true);
    edit(true);
    if (view() === "original") document.querySelector("#view input[value=cutout]")?.click();
    changed();
    viewer().querySelector(".split").focus({ preventScroll: true, focusVisible: false });
  };
  const hide = () => {
    [frozen, active, canvas.hidden, ring.hidden] = [false, null, true, true];
    setOpen(false);
    edit(false);
  };
  // Done was pressed: the strokes stay in view until the pictures with them are loaded.
  const close = () => {
    active = null;
    ring.hidden = frozen = true;
    setOpen(false);
  };
  const closed = async () => {
    if (!frozen) return;
    if (scene()) edit(false);
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    await viewer()?.querySelector("img.after").decode().catch(() => {});
    if (frozen) hide();
  };
  document.addEventListener("viewer", (event) => {
    if (event.detail !== "#result") return;
    if ((open || frozen) && scene()?.result !== work.result) return hide();
    attach();
    if (open) redraw();
  });
  document.addEventListener("load", (event) => open && event.target.closest?.(".stage") && redraw(), true);
  document.addEventListener("input", (event) => open && event.target.closest?.("#retouch") && redraw(false));

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button");
    if (button?.matches(WAITS) && [...works.values()].some(isPending) && !button.dataset.waited) {
      event.preventDefault();
      event.stopImmediatePropagation();
      await flush();
      button.dataset.waited = "yes"; // a failure is reported, and does not lock the button
      button.click();
      delete button.dataset.waited;
      return;
    }
    if (button?.matches("[data-viewer=retouch]")) open ? field("done").click() : show();
    else if (button?.matches("[data-retouch]")) show();
    if (!open) return;
    const action = { "retouch-undo": undo, "retouch-redo": redo, "retouch-clear": undoAll, "retouch-done": close }[button?.id];
    action?.();
  }, true);

  // One pointer paints. A second finger, the space bar or another button leaves the pointers to the viewer.
  document.addEventListener("pointerdown", (event) => {
    const stage = stageOf(event);
    if (!open || !stage) return;
    pressed.add(event.pointerId);
    pinching ||= pressed.size > 1;
    if (pinching) {
      active = picking = null;
      redraw(false);
    } else if (event.button === 0 && !panning && view() !== "original") begin(event);
  }, true);
  document.addEventListener("pointermove", (event) => {
    const stage = open && (stageOf(event) ?? (active && viewer()?.querySelector(".stage")));
    ring.hidden = !stage || pinching || panning || PICKS.includes(mode());
    if (!stage) return;
    drawRing(event, stage);
    if (!active) return;
    extend(event);
    event.stopPropagation();
  }, true);
  const lift = (event) => {
    pressed.delete(event.pointerId);
    if (!pressed.size) pinching = false;
    if (event.pointerType === "touch") ring.hidden = true;
    if (picking?.pointerId === event.pointerId) {
      const moved = Math.hypot(event.clientX - picking.clientX, event.clientY - picking.clientY);
      picking = null;
      if (event.type === "pointerup" && open && moved < CLICK) pick(event);
    }
    if (!active) return;
    if (event.type === "pointerup") return finish();
    active = null;
    redraw(false);
  };
  for (const type of ["pointerup", "pointercancel"]) document.addEventListener(type, lift, true);
  document.addEventListener("dblclick", (event) => open && stageOf(event) && event.stopPropagation(), true);

  document.addEventListener("keydown", (event) => {
    const { target, key } = event, command = event.ctrlKey || event.metaKey;
    if (!open || target.matches?.(FIELDS) || document.querySelector("#background-options .color-picker")) return;
    const letter = key.toLowerCase();
    if (key === "[" || key === "]") resize(key === "[" ? 1 / 1.2 : 1.2);
    else if (command && letter === "z") event.shiftKey ? redo() : undo();
    else if (command && letter === "y") redo();
    else if (command || event.altKey) return;
    else if (letter === "k" || letter === "e") {
      field("mode").querySelector(`input[value=${letter === "k" ? "keep" : "erase"}]`).click();
      redraw(false); // in the next frame, when Gradio has unchecked the other one
    } else if (key === "Escape") field("done").click();
    else if (key === " " && !target.closest?.("button, label, summary")) panning = true;
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  document.addEventListener("keyup", (event) => event.key === " " && (panning = false), true);
  new MutationObserver(attach).observe(root, { childList: true, subtree: true });
  window.rmbgRetouch = { request: () => request?.text ?? "", answered, closed, point: () => picked, selected };
})();
