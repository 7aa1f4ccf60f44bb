// The viewers of the page: one picture, or several that are zoomed and moved together. The state of a viewer is stored outside of
// its HTML and applied again when Gradio replaces that. `place` is the selector of its container, `partButton` the id of the
// button which requests a part at full size.
const createViewer = (place, partButton) => {
  const MAX_SCALE = 8; // screen pixels for each pixel of the photo
  const SETTLE = 180; // milliseconds without movement before a part is loaded at full size
  const PATIENCE = 1000; // milliseconds until a picture counts as displayed
  const BORDER = 0.15, LENS_BORDER = 1; // loaded around the visible part, and around that of the loupe, as a fraction of it
  const MIN_POWER = 2, MAX_POWER = 4; // magnification of the loupe

  const camera = { zoom: 1, x: 0, y: 0 }; // x and y: corner of the frame in fractions of the stage
  const loupe = { on: false, power: 3, u: 0.5, v: 0.5, lift: 0 }; // u and v: its point in the stage; lift: pixels above that
  let scene = null, sceneText = "", chosen = {}, timer = 0, requested = false, part = null, lens = null;
  let drafted = false; // a draft is displayed, without details
  let editing = false; // while the retouch tools are open: the whole photo, and the cutout without strokes

  const viewer = () => document.querySelector(`${place} .viewer[data-scene]`);
  const stages = () => [...viewer().querySelectorAll(".stage")];
  const layersOf = (node) => [...node.querySelectorAll(":scope > .layer")];
  const address = (url) => (url.startsWith("data:") ? url : `${window.gradio_config?.root ?? ""}/${url}`);
  const options = () => ({ format: "png", ...scene.options, ...chosen });
  const show = (image, url) => {
    if (url && image.getAttribute("src") !== address(url)) image.src = address(url);
  };
  const notify = () => document.dispatchEvent(new CustomEvent("viewer", { detail: place }));
  const say = (text) => {
    const status = viewer()?.querySelector(".viewer-status");
    if (status) status.textContent = text;
  };

  // The visible part of the scene at zoom 1, in pixels of the preview.
  const frame = () => {
    const canvas = !editing && scene.canvases && window.rmbgFinishing.frame(scene, options());
    if (canvas) return canvas;
    const [width, height] = scene.size;
    const { crop, margin } = options();
    if (!crop || editing) return { left: 0, top: 0, width, height };
    const [left, top, right, bottom] = scene.box;
    const space = Math.round((margin / 100) * Math.max(right - left, bottom - top));
    const x = Math.max(0, left - space), y = Math.max(0, top - space);
    return { left: x, top: y, width: Math.min(width, right + space) - x, height: Math.min(height, bottom + space) - y };
  };
  const backdrop = ({ view, kind, color, top, bottom, angle, fit, across, along }, pictures) => {
    if (view !== "cutout") return "none";
    if (kind.startsWith("#")) return kind;
    if (kind === "color") return color;
    if (kind === "gradient") return `linear-gradient(${angle}deg, ${top}, ${bottom})`;
    const url = pictures[kind], position = kind === "image" ? `${across}% ${along}% / ${fit}` : "center / cover";
    return url ? `url(${JSON.stringify(address(url))}) ${position} no-repeat #fff` : "none";
  };

  const paint = (layer, { pictures, labels }, view) => {
    const image = layer.querySelector("img:not(.detail)"), ground = layer.querySelector(".backdrop");
    show(image, pictures[view]);
    if (labels) image.alt = labels[view];
    if (ground) ground.style.background = backdrop(options(), pictures);
  };
  // The scene of several pictures has `panes`, one for each stage; `before` is the second result under a slider.
  const draw = () => {
    const node = viewer();
    if (!node || !scene) return;
    const chosen = options(), box = frame();
    const set = (name, value) => node.style.setProperty(name, value);
    set("--ratio", `${box.width}/${box.height}`);
    set("--scene-x", `${(-100 * box.left) / box.width}%`);
    set("--scene-y", `${(-100 * box.top) / box.height}%`);
    set("--scene-width", `${(100 * scene.size[0]) / box.width}%`);
    set("--scene-height", `${(100 * scene.size[1]) / box.height}%`);
    set("--matte", chosen.color);
    node.toggleAttribute("data-matte", scene.opaque.includes(chosen.format));
    stages().forEach((stage, index) => {
      const pane = scene.panes?.[index] ?? scene, [after, before] = layersOf(stage);
      const pictures = editing ? { ...pane.pictures, ...pane.unretouched } : pane.pictures;
      paint(after, { ...pane, pictures }, chosen.view);
      if (before && pane.before) paint(before, pane.before, chosen.view);
      else if (before) paint(before, { pictures: pane.pictures }, "original");
    });
    if (scene.canvases) window.rmbgFinishing.draw(node, scene, box, editing ? { ...chosen, view: "" } : chosen);
    node.toggleAttribute("data-drawn", true);
    move();
  };

  // Screen pixels for each pixel of the photo at zoom 1.
  const fitScale = () => {
    const width = viewer().querySelector(".stage").clientWidth * devicePixelRatio;
    return width / ((frame().width / scene.size[0]) * scene.full[0]) || 1;
  };
  const maxZoom = () => Math.max(4, MAX_SCALE / fitScale());
  const move = () => {
    const node = viewer();
    camera.zoom = rmbgClamp(camera.zoom, 1, maxZoom());
    for (const axis of ["x", "y"]) camera[axis] = rmbgClamp(camera[axis], 1 - camera.zoom, 0);
    node.style.setProperty("--zoom", camera.zoom);
    node.style.setProperty("--pan-x", `${camera.x * 100}%`);
    node.style.setProperty("--pan-y", `${camera.y * 100}%`);
    for (const stage of stages()) {
      stage.classList.toggle("zoomed", camera.zoom > 1);
      stage.classList.toggle("pixels", camera.zoom * fitScale() > 3);
    }
    showDetail();
    showLoupe(true);
    clearTimeout(timer);
    timer = setTimeout(requestPart, SETTLE);
    notify();
  };
  // u and v: the fixed point of the zoom in the stage, 0 to 1.
  const zoomTo = (zoom, u = 0.5, v = 0.5) => {
    const target = rmbgClamp(zoom, 1, maxZoom());
    camera.x = u - ((u - camera.x) / camera.zoom) * target;
    camera.y = v - ((v - camera.y) / camera.zoom) * target;
    camera.zoom = target;
    move();
  };

  // A part of the stage in pixels of the photo, and their size on the screen; null if the preview is sharp enough.
  const visible = ({ left = 0, top = 0, right = 1, bottom = 1, power = 1 } = {}) => {
    const box = frame(), ratio = scene.full[0] / scene.size[0], { zoom, x, y } = camera;
    const scale = zoom * fitScale() * power; // screen pixels for each pixel of the photo
    if (ratio < 1.01 || scale * ratio < 1.05) return null;
    const width = (box.width / zoom) * ratio, height = (box.height / zoom) * ratio;
    const first = { left: box.left * ratio + (left - x) * width, top: box.top * ratio + (top - y) * height };
    const inside = { left: Math.max(0, first.left), top: Math.max(0, first.top) }; // a canvas may extend beyond the photo
    const last = {
      right: Math.min(scene.full[0], first.left + (right - left) * width),
      bottom: Math.min(scene.full[1], first.top + (bottom - top) * height),
    };
    if (inside.left >= last.right || inside.top >= last.bottom) return null;
    return { ...inside, width: last.right - inside.left, height: last.bottom - inside.top, scale };
  };
  const underLoupe = () => {
    const stage = stages()[0], glass = stage.querySelector(":scope > .glass");
    if (!glass) return null;
    const { u, v, power } = loupe, du = glass.offsetWidth / 2 / power / stage.clientWidth, dv = glass.offsetHeight / 2 / power / stage.clientHeight;
    return visible({ left: Math.max(0, u - du), top: Math.max(0, v - dv), right: Math.min(1, u + du), bottom: Math.min(1, v + dv), power });
  };
  const covers = (loaded, seen) => {
    const [left, top, right, bottom, pixels] = loaded.area;
    const sharp = pixels / (right - left) >= Math.min(1, seen.scale) * 0.8;
    const inside = left <= seen.left + 1 && top <= seen.top + 1 && right >= seen.left + seen.width - 1 && bottom >= seen.top + seen.height - 1;
    const same = loaded.view === options().view && loaded.editing === editing && loaded.scene === sceneText;
    return sharp && inside && same;
  };
  // `images`: the details of the layers, in the order of the document.
  const placeDetails = (images, loaded) => images.forEach((image, index) => {
    image.hidden = !loaded;
    if (!loaded) return;
    const [left, top, right, bottom] = loaded.area, [width, height] = scene.full;
    show(image, loaded.pictures[index]);
    image.style.left = `${(100 * left) / width}%`;
    image.style.top = `${(100 * top) / height}%`;
    image.style.width = `${(100 * (right - left)) / width}%`;
    image.style.height = `${(100 * (bottom - top)) / height}%`;
  });
  const showDetail = () => {
    const seen = visible(), loaded = part && seen && covers(part, seen) ? part : null;
    stages().forEach((stage) => stage.classList.toggle("detailed", Boolean(loaded)));
    placeDetails([...viewer().querySelectorAll(".stage > .layer img.detail")], loaded);
  };
  const missing = () => {
    const seen = visible();
    if (seen && !(part && covers(part, seen))) return { seen, border: BORDER, forLoupe: false };
    const magnified = loupe.on && underLoupe();
    const found = magnified && [lens, part].some((loaded) => loaded && covers(loaded, magnified));
    return magnified && !found ? { seen: magnified, border: LENS_BORDER, forLoupe: true } : null;
  };
  const requestPart = async () => {
    if (requested || drafted || !scene || !viewer()) return;
    const wanted = missing();
    if (!wanted) return;
    const { seen, border, forLoupe } = wanted;
    const [width, height] = scene.full, dx = seen.width * border, dy = seen.height * border;
    const area = [
      Math.max(0, Math.floor(seen.left - dx)), Math.max(0, Math.floor(seen.top - dy)),
      Math.min(width, Math.ceil(seen.left + seen.width + dx)), Math.min(height, Math.ceil(seen.top + seen.height + dy)),
    ];
    area.push(Math.max(1, Math.ceil((area[2] - area[0]) * Math.min(1, seen.scale))));
    const asked = { area, view: options().view, editing, scene: sceneText }, text = area.join(",") + (editing ? ",unretouched" : "");
    requested = true;
    try {
      const answer = await rmbgAsk(partButton, text);
      if (answer.error) return say(answer.error);
      if (answer.area !== text || answer.view !== asked.view) return;
      const { pictures } = answer, loaded = { ...asked, pictures };
      await Promise.all(pictures.map((url) => Object.assign(new Image(), { src: address(url) }).decode()));
      if (forLoupe) lens = loaded;
      else part = loaded;
      setTimeout(() => scene && viewer() && move());
    } catch {
      // The preview stays; the next movement requests the part again.
    } finally {
      requested = false;
    }
  };

  // A clone of a layer; a cloned canvas is empty.
  const duplicate = (layer) => {
    const copy = layer.cloneNode(true), drawn = layer.querySelectorAll("canvas");
    copy.querySelectorAll("canvas").forEach((canvas, index) => drawn[index].width && canvas.getContext("2d").drawImage(drawn[index], 0, 0));
    return copy;
  };
  // The loupe is a circle with a copy of the stage's layers. `changed`: the layers differ from those that were copied.
  const showLoupe = (changed = false) => {
    const node = viewer();
    if (!node) return;
    node.querySelector("[data-viewer=loupe]")?.setAttribute("aria-pressed", loupe.on);
    for (const stage of stages()) {
      let glass = stage.querySelector(":scope > .glass");
      stage.classList.toggle("magnifying", loupe.on);
      if (!loupe.on) {
        glass?.remove();
        continue;
      }
      if (!glass) {
        glass = Object.assign(document.createElement("div"), { className: "glass", ariaHidden: "true" });
        glass.append(Object.assign(document.createElement("div"), { className: "magnified" }));
        stage.append(glass);
        changed = true;
      }
      const copy = glass.firstChild, { u, v, power, lift } = loupe;
      if (changed) copy.replaceChildren(...layersOf(stage).map(duplicate));
      const width = stage.clientWidth, height = stage.clientHeight, radius = glass.clientWidth / 2;
      glass.style.left = `${100 * u}%`;
      glass.style.top = `${lift ? Math.max(radius, v * height - lift) : v * height}px`;
      Object.assign(copy.style, { width: `${width}px`, height: `${height}px` });
      copy.style.transform = `translate(${radius - u * width * power}px, ${radius - v * height * power}px) scale(${power})`;
    }
    if (!loupe.on) return;
    const seen = underLoupe(), loaded = seen && [lens, part].find((other) => other && covers(other, seen));
    node.querySelectorAll(".glass").forEach((glass) => glass.classList.toggle("detailed", Boolean(loaded)));
    placeDetails([...node.querySelectorAll(".glass img.detail")], loaded || null);
    clearTimeout(timer);
    timer = setTimeout(requestPart, SETTLE);
  };
  const setLoupe = (on) => {
    loupe.on = on;
    showLoupe();
  };
  const moveLoupe = (u, v, lift = 0) => {
    Object.assign(loupe, { u: rmbgClamp(u, 0, 1), v: rmbgClamp(v, 0, 1), lift });
    showLoupe();
  };
  const magnify = (step) => {
    loupe.power = rmbgClamp(loupe.power + step, MIN_POWER, MAX_POWER);
    showLoupe();
  };

  // Where the pixels of the photo are in the stage: those of CSS for each pixel of the photo, and the position of the first one.
  const mapping = () => {
    const { clientWidth, clientHeight } = viewer().querySelector(".stage"), box = frame(), { zoom, x, y } = camera;
    return {
      scaleX: (clientWidth * zoom * scene.size[0]) / (box.width * scene.full[0]),
      scaleY: (clientHeight * zoom * scene.size[1]) / (box.height * scene.full[1]),
      left: clientWidth * (x - (zoom * box.left) / box.width),
      top: clientHeight * (y - (zoom * box.top) / box.height),
    };
  };
  // Any change of the frame resets the camera.
  const reframe = (change) => {
    const before = scene && JSON.stringify(frame());
    change();
    if (!scene || !viewer()) return;
    if (JSON.stringify(frame()) !== before) Object.assign(camera, { zoom: 1, x: 0, y: 0 });
    draw();
  };
  // Called once the full size of a preview is available: a part that was refused is requested again.
  const refine = () => {
    if (!scene || !viewer()) return;
    say("");
    move();
  };
  const edit = (on) => editing !== on && reframe(() => (editing = on));
  const setOptions = (values) => reframe(() => (chosen = values));
  const refresh = () => {
    const text = viewer()?.dataset.scene ?? "";
    if (text === sceneText) {
      if (scene && !viewer().hasAttribute("data-drawn")) draw(); // Gradio has replaced other HTML around the pictures
      return;
    }
    const before = scene;
    [sceneText, scene] = [text, text ? JSON.parse(text) : null];
    if (!scene) return notify();
    if (String(before?.full) !== String(scene.full)) Object.assign(camera, { zoom: 1, x: 0, y: 0 });
    part = lens = null;
    drafted = false;
    draw();
  };
  // Shows a draft until the scene has other edits than those of `edition`, in which the draft was requested.
  const showDraft = async (edition, view, { picture, box }) => {
    await Object.assign(new Image(), { src: picture }).decode();
    if (scene?.edition !== edition || !viewer()) return;
    const name = editing ? "unretouched" : "pictures";
    [scene, part, lens, drafted] = [{ ...scene, box, [name]: { ...scene[name], [view]: picture } }, null, null, true];
    draw();
  };
  // Resolves when the picture is decoded and displayed, at the latest after `PATIENCE`, as in a hidden tab.
  const painted = () => Promise.race([
    new Promise((resolve) => setTimeout(resolve, PATIENCE)),
    (async () => {
      await new Promise(requestAnimationFrame); // the scripts have drawn new HTML by then
      await viewer()?.querySelector("img.after").decode().catch(() => {});
      await new Promise(requestAnimationFrame);
    })(),
  ]);
  window.addEventListener("resize", () => scene && viewer() && move());
  rmbgObserve(refresh, "data-scene", "data-drawn");
  return {
    place, viewer, stages, camera, loupe, move, zoomTo, fitScale, address, say, setOptions, setLoupe, moveLoupe, magnify,
    showDraft, edit, mapping, refine, scene: () => scene, view: () => options().view, painted,
  };
};
window.rmbgViewers = {
  result: createViewer("#result", "viewer-part"),
  strip: createViewer("#strip-pair", "strip-part"),
  grid: createViewer("#grid", "grid-part"),
  pair: createViewer("#pair", "pair-part"),
};
window.rmbgSetPanes = (view, kind, color) => {
  document.documentElement.dataset.paneBackground = kind;
  for (const name of ["grid", "pair"]) window.rmbgViewers[name].setOptions({ view, kind, color });
};
// The two results below the strip have the view and the background of the result.
window.rmbgViewer = {
  ...window.rmbgViewers.result,
  setOptions(names, values) {
    const options = Object.fromEntries(names.map((name, index) => [name, values[index]]));
    const { kind: background, canvas, shadow } = options;
    Object.assign(document.documentElement.dataset, { background, canvas, shadow });
    window.rmbgViewers.result.setOptions(options);
    window.rmbgViewers.strip.setOptions({ ...options, crop: false, format: "png" });
  },
};
