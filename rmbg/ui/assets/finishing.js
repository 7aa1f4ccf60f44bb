// Finishing of the cutout in the viewer: canvas, shadows and outline, with the geometry of rmbg/render.
(() => {
  const MAX_SIDE = 1400; // of the drawn effects, in pixels
  const AWAY = 20000; // distance at which a shape is drawn so that only its shadow is visible
  const CONTACT_HEIGHT = 0.025, CONTACT_DISTANCE = 0.08, CONTACT_BLUR = 0.01; // as in rmbg/render/finishing.py

  let pending = 0, source = null;

  // Width, height and alignment of the canvas; null for the size of the photo, and while the size is being typed.
  const canvasOf = (scene, { canvas, size }) => {
    if (canvas !== "other") return scene.canvases[canvas] ?? null;
    const [, width, height] = (size ?? "").trim().match(/^(\d{1,5})\s*[x×*]\s*(\d{1,5})$/i) ?? [];
    return Math.min(width, height) >= 16 ? [Number(width), Number(height), "center"] : null;
  };
  // The canvas in pixels of the preview; null without one.
  const frame = (scene, given) => {
    const canvas = canvasOf(scene, given);
    if (!canvas) return null;
    const [width, height, align] = canvas, [left, top, right, bottom] = scene.box;
    const padding = (given.padding / 100) * Math.min(width, height), low = align === "bottom";
    const down = (height - (low ? 1 : 2) * padding) / (bottom - top);
    const fitted = low ? down : Math.min((width - 2 * padding) / (right - left), down);
    const scale = fitted * (given.scale / 100);
    const x = (left + right) / 2 - (width * (0.5 + given.x / 100)) / scale;
    const y = low ? bottom - (height * (1 + given.y / 100)) / scale : (top + bottom) / 2 - (height * (0.5 + given.y / 100)) / scale;
    return { left: x, top: y, width: width / scale, height: height / scale };
  };

  const surface = (width, height) => Object.assign(document.createElement("canvas"), { width, height });
  const filled = (shape, color) => {
    const result = surface(shape.width, shape.height), pen = result.getContext("2d");
    pen.drawImage(shape, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = color;
    pen.fillRect(0, 0, result.width, result.height);
    return result;
  };
  const castShadow = (pen, shape, y, sigma, opacity) => {
    pen.save();
    Object.assign(pen, { shadowColor: `rgb(0 0 0 / ${opacity})`, shadowBlur: 2 * sigma, shadowOffsetX: AWAY, shadowOffsetY: y });
    pen.drawImage(shape, -AWAY, 0);
    pen.restore();
  };
  // The shape moved in all directions: rings of copies, close enough that no gap remains.
  const widened = (shape, radius) => {
    const result = surface(shape.width, shape.height), pen = result.getContext("2d");
    pen.drawImage(shape, 0, 0);
    for (const ring of [radius, radius * 0.66, radius * 0.33]) {
      const count = Math.min(72, Math.max(16, Math.ceil(ring * 3)));
      for (let index = 0; index < count; index++) {
        const angle = (2 * Math.PI * index) / count;
        pen.drawImage(shape, ring * Math.cos(angle), ring * Math.sin(angle));
      }
    }
    return result;
  };
  const ground = (shape, [left, top, right, bottom]) => {
    const result = surface(shape.width, shape.height), pen = result.getContext("2d");
    const height = bottom - top, half = (CONTACT_HEIGHT * Math.max(height, right - left)) / 2;
    const first = Math.max(0, Math.floor(left)), width = Math.min(shape.width, Math.ceil(right)) - first;
    const start = Math.max(0, Math.floor(bottom - 3 * CONTACT_DISTANCE * height));
    const rows = Math.min(shape.height, Math.ceil(bottom)) - start;
    if (width < 1 || rows < 1) return result;
    const { data } = shape.getContext("2d").getImageData(first, start, width, rows);
    for (let x = 0; x < width; x++) {
      let y = rows - 1;
      while (y >= 0 && data[4 * (y * width + x) + 3] < 128) y--;
      if (y < 0) continue;
      pen.globalAlpha = Math.exp(-(((bottom - start - y - 1) / (CONTACT_DISTANCE * height)) ** 2));
      pen.fillRect(first + x, start + y + 1 - half, 1, 2 * half);
    }
    return result;
  };

  const paint = (target, scene, box, image, given) => {
    const scale = Math.min(1, MAX_SIDE / Math.max(box.width, box.height));
    const width = Math.max(1, Math.round(box.width * scale)), height = Math.max(1, Math.round(box.height * scale));
    const subject = surface(width, height);
    const [left, top, right, bottom] = scene.box;
    const [x, y] = [-box.left * scale, -box.top * scale];
    subject.getContext("2d", { willReadFrequently: true }).drawImage(image, x, y, scene.size[0] * scale, scene.size[1] * scale);
    const reference = Math.max(right - left, bottom - top) * scale, unit = reference / 100;
    const line = given.outline > 0 ? filled(widened(subject, given.outline * unit), given.outline_color) : null;
    Object.assign(target, { width, height });
    const pen = target.getContext("2d");
    if (["soft", "both"].includes(given.shadow)) {
      castShadow(pen, line ?? subject, given.distance * unit, given.blur * unit, given.strength / 100);
    }
    if (["contact", "both"].includes(given.shadow)) {
      const feet = ground(subject, [left * scale + x, top * scale + y, right * scale + x, bottom * scale + y]);
      castShadow(pen, feet, 0, CONTACT_BLUR * reference, given.strength / 100);
    }
    if (line) pen.drawImage(line, 0, 0);
  };

  // Draws what lies between the background and the subject, in the frame of the viewer.
  const draw = (node, scene, box, given) => {
    const target = node.querySelector(".effects");
    const shown = given.view === "cutout" && (given.shadow !== "none" || given.outline > 0);
    const place = (name, value) => node.style.setProperty(name, `${100 * value}%`);
    place("--frame-x", box.left / scene.size[0]);
    place("--frame-y", box.top / scene.size[1]);
    place("--frame-width", box.width / scene.size[0]);
    place("--frame-height", box.height / scene.size[1]);
    node.toggleAttribute("data-canvas", Boolean(frame(scene, given)));
    target.hidden = !shown;
    cancelAnimationFrame(pending);
    if (!shown) return;
    const url = window.rmbgViewer.address(scene.pictures.cutout);
    if (source?.getAttribute("src") !== url) source = Object.assign(new Image(), { src: url });
    const image = source;
    pending = requestAnimationFrame(async () => {
      const turn = pending;
      await image.decode().catch(() => {});
      if (turn === pending && image.naturalWidth) paint(target, scene, box, image, given);
    });
  };
  window.rmbgFinishing = { frame, draw };
})();
