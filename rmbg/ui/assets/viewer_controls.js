// Controls of the viewers: slider, pointers, wheel, keys, toolbar, clipboard; and the swatches of the background.
(() => {
  const root = document.documentElement;
  const viewers = Object.values(window.rmbgViewers);
  const { viewer, address, say } = window.rmbgViewer;
  const NEAR = 22; // distance in pixels at which the divider can be dragged
  const STEP = 1.5; // zoom factor of a button or key
  const LIFT = 90; // pixels between a finger and the loupe above it
  const NOT_COPIED = rmbgText("The browser does not let this page copy pictures. Use Download, or right-click the picture.");

  const pointers = new Map();
  let split = 50, holding = false, loupeKey = null, drag = null, pinch = null;

  const stageOf = (event) => event.target.closest?.(".stage");
  // The viewer of an element; undefined for pictures without zoom.
  const viewerOf = (element) => element?.closest?.(".viewer[data-scene]") && viewers.find(({ place }) => element.closest(place));
  const hasFocus = ({ stages }) => stages().some((stage) => stage.contains(document.activeElement));
  const sayZoom = ({ say, camera, fitScale }) => say(`${Math.round(100 * camera.zoom * fitScale())} %`);
  const sayLoupe = ({ say, loupe }) => say(loupe.on ? `${rmbgText("Loupe")} ${100 * loupe.power} %` : "");
  const hold = (on) => {
    holding = on;
    viewer()?.querySelector(".stage").classList.toggle("holding", on);
  };
  const setLoupe = (shown, on) => {
    shown.setLoupe(on);
    sayLoupe(shown);
  };
  const setSplit = (value) => {
    split = rmbgClamp(value, 0, 100);
    root.style.setProperty("--split", `${split}%`);
    document.querySelectorAll(".split").forEach((handle) => (handle.value = split));
  };

  const copy = async () => {
    say(rmbgText("Copying…"));
    let problem = NOT_COPIED;
    try {
      const picture = rmbgAsk("viewer-copy").then(async ({ url, text, error }) => {
        if (error) throw new Error(error);
        return { blob: await (await fetch(address(url))).blob(), text };
      });
      picture.catch((error) => (problem = error.message));
      const written = navigator.clipboard.write([new ClipboardItem({ "image/png": picture.then(({ blob }) => blob) })]);
      const [{ text }] = await Promise.all([picture, written]);
      say(text);
    } catch {
      say(problem);
    }
  };

  const actions = {
    in: ({ zoomTo, camera }) => zoomTo(camera.zoom * STEP),
    out: ({ zoomTo, camera }) => zoomTo(camera.zoom / STEP),
    fit: ({ zoomTo }) => zoomTo(1),
    actual: ({ zoomTo, fitScale }) => zoomTo(1 / fitScale()),
  };
  const act = (shown, name) => {
    if (!shown || !actions[name]) return;
    actions[name](shown);
    sayZoom(shown);
  };
  const position = (event, stage) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, box.width];
  };
  // The retouch tools hide the divider.
  const nearDivider = (u, width) => !("retouch" in root.dataset) && Math.abs(u - split / 100) * width <= NEAR;

  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".split")) setSplit(Number(event.target.value));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-viewer]"), shown = viewerOf(button);
    if (!shown) return;
    if (button.dataset.viewer === "copy") copy();
    else if (button.dataset.viewer === "loupe") setLoupe(shown, !shown.loupe.on);
    else act(shown, button.dataset.viewer);
  });
  document.addEventListener("dblclick", (event) => {
    const stage = stageOf(event), shown = viewerOf(stage);
    if (!shown) return;
    shown.zoomTo(shown.camera.zoom > 1 ? 1 : Math.max(2, 1 / shown.fitScale()), ...position(event, stage).slice(0, 2));
    sayZoom(shown);
  });
  // Without Ctrl the wheel scrolls the page until the picture is zoomed or has the focus. Under the loupe it changes its power.
  document.addEventListener("wheel", (event) => {
    const stage = stageOf(event), shown = viewerOf(stage);
    if (!shown) return;
    const { camera, zoomTo, loupe, magnify } = shown;
    const direct = event.ctrlKey || event.metaKey;
    if (!direct && !loupe.on && camera.zoom === 1 && (event.deltaY > 0 || !hasFocus(shown))) {
      if (event.deltaY < 0) shown.say(rmbgText("Ctrl + wheel zooms"));
      return;
    }
    event.preventDefault();
    if (!direct && loupe.on) {
      magnify(event.deltaY < 0 ? 1 : -1);
      return sayLoupe(shown);
    }
    const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    zoomTo(camera.zoom * Math.exp(-rmbgClamp(pixels, -150, 150) / 300), ...position(event, stage).slice(0, 2));
    sayZoom(shown);
  }, { passive: false });

  document.addEventListener("pointerdown", (event) => {
    if (event.target.closest?.("[data-viewer=hold]")) hold(true);
    const stage = stageOf(event);
    if (!stage || event.button !== 0) return;
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    (stage.querySelector(".split") ?? stage).focus({ preventScroll: true, focusVisible: false });
    if (event.pointerType === "mouse") event.preventDefault(); // keeps the focus on the slider, and selects no text
    const [u, v, width] = position(event, stage), shown = viewerOf(stage), camera = shown?.camera;
    if (shown?.loupe.on && event.pointerType !== "mouse") shown.moveLoupe(u, v, LIFT);
    const magnified = Boolean(shown?.loupe.on), near = nearDivider(u, width) && !(magnified && event.pointerType !== "mouse");
    const onDivider = Boolean(stage.querySelector(".split")) && (near || !(magnified || camera?.zoom > 1));
    drag = { stage, shown, u, v, x: camera?.x, y: camera?.y, onDivider, moved: false, from: event };
    pinch = null;
  });
  document.addEventListener("pointermove", (event) => {
    const stage = stageOf(event);
    if (stage && !drag) {
      const [u, v, width] = position(event, stage), shown = viewerOf(stage);
      stage.classList.toggle("near-divider", Boolean(stage.querySelector(".split")) && nearDivider(u, width));
      if (shown?.loupe.on) shown.moveLoupe(u, v);
    }
    if (!drag || !pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 2 && drag.shown) return movePinch(drag.shown);
    drag.moved ||= Math.hypot(event.clientX - drag.from.clientX, event.clientY - drag.from.clientY) > 3;
    if (!drag.moved || pinch) return;
    const [u, v] = position(event, drag.stage), { shown } = drag;
    if (drag.onDivider) return setSplit(100 * u);
    if (shown?.loupe.on) return shown.moveLoupe(u, v, event.pointerType === "mouse" ? 0 : LIFT);
    if (!shown) return;
    drag.stage.classList.add("dragging");
    Object.assign(shown.camera, { x: drag.x + u - drag.u, y: drag.y + v - drag.v });
    shown.move();
  });
  const movePinch = ({ camera, zoomTo }) => {
    const [first, second] = [...pointers.values()];
    const distance = Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY);
    const middle = { clientX: (first.clientX + second.clientX) / 2, clientY: (first.clientY + second.clientY) / 2 };
    const [u, v] = position(middle, drag.stage);
    if (pinch) {
      camera.x += u - pinch.u;
      camera.y += v - pinch.v;
      zoomTo((camera.zoom * distance) / pinch.distance, u, v);
    }
    pinch = { distance, u, v };
  };
  const release = (event) => {
    hold(false);
    pointers.delete(event.pointerId);
    if (pointers.size) return;
    drag?.stage.classList.remove("dragging");
    drag = pinch = null;
  };
  for (const type of ["pointerup", "pointercancel"]) document.addEventListener(type, release);
  // Other keys may be pressed while that of the loupe is held.
  const releaseKeys = (event) => {
    if (holding) hold(false);
    if (!loupeKey || !["l", undefined].includes(event.key?.toLowerCase())) return;
    setLoupe(loupeKey, false);
    loupeKey = null;
  };
  window.addEventListener("blur", releaseKeys);

  const KEYS = { "+": "in", "=": "in", "-": "out", _: "out", 0: "fit" };
  const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const picker = event.key === "Escape" && document.querySelector("#background-options .color-picker");
    if (picker) {
      const opener = picker.parentElement.querySelector(".dialog-button");
      opener.click();
      return opener.focus();
    }
    const button = event.target.closest?.("[data-viewer]");
    if (button) return pressTool(event, button);
    if (!event.target.matches?.(".viewer[data-scene] :is(.split, .stage)")) return;
    const shown = viewerOf(event.target), { camera, loupe } = shown;
    if (KEYS[event.key]) act(shown, KEYS[event.key]);
    else if (event.key.toLowerCase() === "o") hold(true);
    else if (event.key.toLowerCase() === "l") {
      if (!loupe.on) setLoupe((loupeKey = shown), true);
    } else if (ARROWS[event.key] && loupe.on) {
      shown.moveLoupe(loupe.u - ARROWS[event.key][0] * 0.03, loupe.v - ARROWS[event.key][1] * 0.03);
    } else if (ARROWS[event.key] && camera.zoom > 1 && !event.shiftKey) {
      camera.x += ARROWS[event.key][0] * 0.1;
      camera.y += ARROWS[event.key][1] * 0.1;
      shown.move();
    } else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", releaseKeys);
  // Toolbar pattern of the ARIA Authoring Practices: one tab stop, arrow keys within.
  const pressTool = (event, button) => {
    if (button.dataset.viewer === "hold" && [" ", "Enter"].includes(event.key)) hold(true);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const buttons = [...button.parentElement.querySelectorAll("[data-viewer]")];
    const next = buttons[(buttons.indexOf(button) + step + buttons.length) % buttons.length];
    buttons.forEach((other) => (other.tabIndex = other === next ? 0 : -1));
    next.focus();
    event.preventDefault();
  };

  rmbgObserve(() => {
    document.querySelectorAll("#background label:not(.swatch) input:is([value^='#'], [value=transparent])").forEach((input) => {
      const label = input.closest("label");
      label.classList.add("swatch");
      label.classList.toggle("none", input.value === "transparent");
      label.style.setProperty("--swatch", input.value);
      label.title = label.textContent.trim();
    });
    document.querySelectorAll(".split").forEach((handle) => Number(handle.value) !== split && (handle.value = split));
  });
  setSplit(split);
})();
