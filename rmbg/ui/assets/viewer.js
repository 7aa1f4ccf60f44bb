// The viewer of a result. Its state is stored outside of the HTML and applied again when Gradio replaces that.
(() => {
  const root = document.documentElement;
  const MAX_SCALE = 8; // screen pixels for each pixel of the photo
  const SETTLE = 180; // milliseconds without movement before a part is loaded at full size
  const BORDER = 0.15; // loaded around the visible part, as a fraction of it

  const camera = { zoom: 1, x: 0, y: 0 }; // x and y: corner of the frame in fractions of the stage
  let scene = null, sceneText = "", chosen = {}, timer = 0, request = null, part = null;
  let editing = false; // while the retouch tools are open: the whole photo, and the cutout without strokes

  const viewer = () => document.querySelector(".viewer[data-scene]");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const address = (url) => (url.startsWith("data:") ? url : `${window.gradio_config?.root ?? ""}/${url}`);
  const options = () => ({ format: "png", ...scene.options, ...chosen });
  const show = (image, url) => {
    if (url && image.getAttribute("src") !== address(url)) image.src = address(url);
  };
  const say = (text) => {
    const status = viewer()?.querySelector(".viewer-status");
    if (status) status.textContent = text;
  };

  // The visible part of the scene at zoom 1, in pixels of the preview.
  const frame = () => {
    const [width, height] = scene.size;
    const { crop, margin } = options();
    if (!crop || editing) return { left: 0, top: 0, width, height };
    const [left, top, right, bottom] = scene.box;
    const space = Math.round((margin / 100) * Math.max(right - left, bottom - top));
    const x = Math.max(0, left - space), y = Math.max(0, top - space);
    return { left: x, top: y, width: Math.min(width, right + space) - x, height: Math.min(height, bottom + space) - y };
  };
  const backdrop = ({ view, kind, color, top, bottom }) => {
    if (view !== "cutout") return "none";
    if (kind.startsWith("#")) return kind;
    if (kind === "color") return color;
    if (kind === "gradient") return `linear-gradient(${top}, ${bottom})`;
    const url = scene.pictures[kind];
    return url ? `url(${JSON.stringify(address(url))}) center / 100% 100% no-repeat` : "none";
  };

  const draw = () => {
    const node = viewer();
    if (!node || !scene) return;
    const chosen = options(), box = frame(), after = node.querySelector("img.after");
    const set = (name, value) => node.style.setProperty(name, value);
    set("--ratio", `${box.width}/${box.height}`);
    set("--scene-x", `${(-100 * box.left) / box.width}%`);
    set("--scene-y", `${(-100 * box.top) / box.height}%`);
    set("--scene-width", `${(100 * scene.size[0]) / box.width}%`);
    set("--scene-height", `${(100 * scene.size[1]) / box.height}%`);
    set("--matte", chosen.color);
    node.toggleAttribute("data-matte", scene.opaque.includes(chosen.format));
    node.querySelector(".backdrop").style.background = backdrop(chosen);
    show(after, (editing && scene.unretouched[chosen.view]) || scene.pictures[chosen.view]);
    show(node.querySelector("img.before"), scene.pictures.original);
    after.alt = scene.labels[chosen.view];
    move();
  };

  // Screen pixels for each pixel of the photo at zoom 1.
  const fitScale = () => {
    const width = viewer().querySelector(".stage").clientWidth * devicePixelRatio;
    return width / ((frame().width / scene.size[0]) * scene.full[0]) || 1;
  };
  const maxZoom = () => Math.max(4, MAX_SCALE / fitScale());
  const move = () => {
    const node = viewer(), stage = node.querySelector(".stage");
    camera.zoom = clamp(camera.zoom, 1, maxZoom());
    for (const axis of ["x", "y"]) camera[axis] = clamp(camera[axis], 1 - camera.zoom, 0);
    node.style.setProperty("--zoom", camera.zoom);
    node.style.setProperty("--pan-x", `${camera.x * 100}%`);
    node.style.setProperty("--pan-y", `${camera.y * 100}%`);
    stage.classList.toggle("zoomed", camera.zoom > 1);
    stage.classList.toggle("pixels", camera.zoom * fitScale() > 3);
    showDetail();
    clearTimeout(timer);
    timer = setTimeout(requestPart, SETTLE);
    document.dispatchEvent(new Event("viewer"));
  };
  // u and v: the fixed point of the zoom in the stage, 0 to 1.
  const zoomTo = (zoom, u = 0.5, v = 0.5) => {
    const target = clamp(zoom, 1, maxZoom());
    camera.x = u - ((u - camera.x) / camera.zoom) * target;
    camera.y = v - ((v - camera.y) / camera.zoom) * target;
    camera.zoom = target;
    move();
  };

  // The visible part of the photo in its pixels, and its width on the screen; null if the preview is sharp enough.
  const visible = () => {
    const box = frame(), ratio = scene.full[0] / scene.size[0], { zoom, x, y } = camera;
    const scale = zoom * fitScale(); // screen pixels for each pixel of the photo
    if (ratio < 1.01 || scale * ratio < 1.05) return null;
    const left = (box.left - (x / zoom) * box.width) * ratio, top = (box.top - (y / zoom) * box.height) * ratio;
    return { left, top, width: (box.width / zoom) * ratio, height: (box.height / zoom) * ratio, scale };
  };
  const covers = (loaded, seen) => {
    const [left, top, right, bottom, pixels] = loaded.area;
    const sharp = pixels / (right - left) >= Math.min(1, seen.scale) * 0.8;
    const inside = left <= seen.left + 1 && top <= seen.top + 1 && right >= seen.left + seen.width - 1 && bottom >= seen.top + seen.height - 1;
    const same = loaded.view === options().view && loaded.editing === editing && loaded.scene === sceneText;
    return sharp && inside && same;
  };
  const showDetail = () => {
    const node = viewer(), seen = visible(), shown = Boolean(part && seen && covers(part, seen));
    node.querySelector(".stage").classList.toggle("detailed", shown);
    node.querySelectorAll("img.detail").forEach((image, index) => {
      image.hidden = !shown;
      if (!shown) return;
      const [left, top, right, bottom] = part.area, [width, height] = scene.full;
      show(image, index ? part.before : part.after);
      image.style.left = `${(100 * left) / width}%`;
      image.style.top = `${(100 * top) / height}%`;
      image.style.width = `${(100 * (right - left)) / width}%`;
      image.style.height = `${(100 * (bottom - top)) / height}%`;
    });
  };
  const requestPart = () => {
    if (request || !scene || !viewer()) return;
    const seen = visible();
    if (!seen || (part && covers(part, seen))) return;
    const [width, height] = scene.full, dx = seen.width * BORDER, dy = seen.height * BORDER;
    const area = [
      Math.max(0, Math.floor(seen.left - dx)), Math.max(0, Math.floor(seen.top - dy)),
      Math.min(width, Math.ceil(seen.left + seen.width + dx)), Math.min(height, Math.ceil(seen.top + seen.height + dy)),
    ];
    area.push(Math.max(1, Math.ceil((area[2] - area[0]) * Math.min(1, seen.scale))));
    request = { area, view: options().view, editing, scene: sceneText };
    document.querySelector("#viewer-part")?.click();
  };
  const areaText = ({ area, editing }) => area.join(",") + (editing ? ",unretouched" : "");
  const showPart = async (answer) => {
    const asked = request;
    try {
      const { area, view, before, after, error } = JSON.parse(answer);
      if (error) return say(error);
      if (!asked || area !== areaText(asked) || view !== asked.view) return;
      await Promise.all([before, after].map((url) => Object.assign(new Image(), { src: address(url) }).decode()));
      part = { ...asked, before, after };
      setTimeout(() => scene && viewer() && move());
    } catch {
      // The preview stays; the next movement asks again.
    } finally {
      request = null;
    }
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
  const edit = (on) => editing !== on && reframe(() => (editing = on));
  const setOptions = (view, kind, color, top, bottom, crop, margin, format) => {
    root.dataset.background = kind;
    reframe(() => (chosen = { view, kind, color, top, bottom, crop, margin, format }));
  };
  const refresh = () => {
    const text = viewer()?.dataset.scene ?? "";
    if (text === sceneText) return;
    const before = scene;
    [sceneText, scene] = [text, text ? JSON.parse(text) : null];
    if (!scene) return document.dispatchEvent(new Event("viewer"));
    if (String(before?.full) !== String(scene.full)) Object.assign(camera, { zoom: 1, x: 0, y: 0 });
    part = null;
    draw();
  };
  window.addEventListener("resize", () => scene && viewer() && move());
  new MutationObserver(refresh).observe(root, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["data-scene"],
  });
  window.rmbgViewer = {
    viewer, camera, move, zoomTo, fitScale, address, say, setOptions, showPart, edit, mapping,
    area: () => (request ? areaText(request) : ""), scene: () => scene, view: () => options().view,
  };
})();
