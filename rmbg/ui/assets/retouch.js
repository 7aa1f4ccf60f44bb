// The retouch tools: pointers and keys paint strokes of a brush on the result, which are drawn here at once and sent to the server one
// after another.
(() => {
  const root = document.documentElement;
  const { viewer, say, scene, view, edit, mapping } = window.rmbgViewer;
  const MAX_STROKES = 400; // as on the server
  const FIELDS = "textarea, select, [contenteditable=true], input:not([type=range], [type=radio], [type=checkbox], [type=color])";
  const WAITS = "#retouch-done, #save, #strip-zip, [data-viewer=copy]"; // need the strokes on the server
  const PICKS = ["subject", "background"]; // modes in which a click sends the point to SAM 2
  const NOT_SENT = rmbgText("The retouching could not be saved. Check the connection; the next stroke tries again.");

  let work = null; // of the result in the viewer
  let open = false, frozen = false; // frozen: closed, until the pictures of the server are loaded
  let active = null, pressed = new Set(), pinching = false, panning = false;
  const CLICK = 6; // pixels that the pointer of a click may move
  let picking = null, searching = false; // the event that began a click; its point was sent
  let frame = 0;

  const field = (name) => document.querySelector(`#retouch-${name}`);
  const mode = () => field("mode")?.querySelector("input:checked")?.value ?? "keep";
  const slider = () => field("size").querySelector("input[type=range]");
  const stageOf = (event) => event.target.closest?.("#result .viewer[data-scene] .stage");

  const { load, flush, pending } = window.rmbgStrokeSync({
    failed: () => say(NOT_SENT),
    rejected: (error) => {
      say(error);
      changed();
    },
  });
  const picture = window.rmbgStrokeCanvas({ viewer, scene, view, mapping }), { canvas } = picture;
  const ring = document.createElement("div");
  ring.className = "brush-ring";
  ring.hidden = true;

  const draw = () => {
    frame = 0;
    if (!open || !viewer()?.querySelector(".stage")) return;
    drawRing();
    picture.draw(work.strokes, active, ["keep", "subject"].includes(mode()));
  };
  const redraw = (again = true) => {
    if (again) picture.invalidate();
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
  const pick = async (event) => {
    const [x, y] = onPhoto(event), [width, height] = scene().full;
    if (x < 0 || y < 0 || x > width || y > height) return;
    if (searching) return say(rmbgText("The last object is still being computed."));
    searching = true;
    say(rmbgText("Finding the object…"));
    const point = JSON.stringify([scene().result, mode() === "subject", x / width, y / height]);
    const { error } = await rmbgAsk("retouch-send-point", point).catch(() => ({ error: NOT_SENT }));
    searching = false;
    say(error);
  };

  // Strokes
  const position = (event) => {
    const [width, height] = scene().full, margin = Math.floor(active.radius), [x, y] = onPhoto(event);
    return [rmbgClamp(x, -margin, width + margin), rmbgClamp(y, -margin, height + margin)].map((value) => Math.round(value * 10) / 10);
  };
  const begin = (event) => {
    if (PICKS.includes(mode())) return (picking = event);
    if (work.strokes.length >= MAX_STROKES) return say(rmbgText("At most {limit} strokes are possible.", { limit: MAX_STROKES }));
    const radius = rmbgClamp(slider().value / 2 / mapping().scaleX, 0.5, Math.max(...scene().full));
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
    const stroke = { ...active, points: window.rmbgSimplified(active.points, Math.max(0.1, active.radius / 40)) };
    active = null;
    work.strokes = [...work.strokes, stroke];
    work.undone = [];
    changed();
    flush();
  };
  // The last strokes move to those that redo brings back, or the other way round.
  const moveStrokes = (from, to, count = 1) => {
    const kept = work[from].length - count;
    if (kept < 0) return;
    work[to] = [...work[to], ...work[from].slice(kept).toReversed()];
    work[from] = work[from].slice(0, kept);
    changed();
    flush();
  };
  const undo = () => moveStrokes("strokes", "undone");
  const redo = () => moveStrokes("undone", "strokes");
  const undoAll = () => moveStrokes("strokes", "undone", work.strokes.length);
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
    if (button.ariaPressed !== String(open)) button.ariaPressed = String(open);
    stage.classList.toggle("retouching", open);
    if (!open && !frozen) stage.classList.remove("composed");
    if ((open || frozen) && canvas.parentElement !== stage) {
      stage.querySelector(".before-layer").before(canvas);
      stage.append(ring);
    }
  };
  const show = () => {
    if (open || !scene()) return;
    work = load(scene());
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

  rmbgClickAfter(WAITS, pending, flush); // a failure is reported
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
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
  rmbgObserve(attach);
  window.rmbgRetouch = { closed };
})();
