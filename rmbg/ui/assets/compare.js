// Synchronized zoom, pan and loupe of all panes. The state is stored outside the panes and persists when they are replaced.
(() => {
  const root = document.documentElement;
  const state = { zoom: 1, x: 0, y: 0 };
  const MAX_ZOOM = 16, LOUPE_ZOOM = 3;
  let drag = null;

  const apply = () => {
    state.zoom = Math.min(MAX_ZOOM, Math.max(1, state.zoom));
    for (const axis of ["x", "y"]) state[axis] = Math.min(0, Math.max(1 - state.zoom, state[axis]));
    root.style.setProperty("--pane-zoom", state.zoom);
    root.style.setProperty("--pane-x", state.x * 100 + "%");
    root.style.setProperty("--pane-y", state.y * 100 + "%");
    root.dataset.paneZoom = state.zoom;
  };
  // u and v: the fixed point of the zoom in the pane, 0 to 1.
  const zoomTo = (zoom, u = 0.5, v = 0.5) => {
    const target = Math.min(MAX_ZOOM, Math.max(1, zoom));
    state.x = u - ((u - state.x) / state.zoom) * target;
    state.y = v - ((v - state.y) / state.zoom) * target;
    state.zoom = target;
    apply();
  };
  const position = (event, view) => {
    const box = view.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const viewOf = (event) => event.target.closest?.(".panes .view:not(.waiting)");

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-pane]");
    if (!button) return;
    const action = button.dataset.pane;
    if (action === "in") zoomTo(state.zoom * 1.6);
    if (action === "out") zoomTo(state.zoom / 1.6);
    if (action === "fit") zoomTo(1);
    if (action === "loupe") {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      root.classList.toggle("loupe-on", on);
    }
  });
  document.addEventListener("wheel", (event) => {
    const view = viewOf(event);
    if (!view || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    zoomTo(state.zoom * Math.exp(-event.deltaY / 300), ...position(event, view));
  }, { passive: false });
  document.addEventListener("dblclick", (event) => {
    const view = viewOf(event);
    if (view) zoomTo(state.zoom > 3.9 ? 1 : state.zoom * 2, ...position(event, view));
  });
  document.addEventListener("pointerdown", (event) => {
    const view = viewOf(event);
    if (view && state.zoom > 1 && event.button === 0) {
      drag = { view, from: position(event, view), x: state.x, y: state.y };
      view.setPointerCapture(event.pointerId);
    }
  });
  document.addEventListener("pointerup", () => (drag = null));
  document.addEventListener("pointercancel", () => (drag = null));
  document.addEventListener("pointermove", (event) => {
    if (drag) {
      const [u, v] = position(event, drag.view);
      [state.x, state.y] = [drag.x + u - drag.from[0], drag.y + v - drag.from[1]];
      apply();
    }
    const view = viewOf(event);
    if (!root.classList.contains("loupe-on")) return;
    document.querySelectorAll(".panes .view:not(.waiting)").forEach((other) => {
      let glass = other.querySelector(".glass");
      if (!view) return glass?.remove();
      const image = other.querySelector("img");
      if (!glass) {
        glass = document.createElement("span");
        glass.className = "glass";
        glass.style.backgroundImage = `url("${image.src}")`;
        other.append(glass);
      }
      const [u, v] = position(event, view);
      const box = other.getBoundingClientRect();
      const scale = state.zoom * LOUPE_ZOOM, radius = glass.offsetWidth / 2;
      const [px, py] = [(u - state.x) / state.zoom, (v - state.y) / state.zoom];
      glass.style.left = u * 100 + "%";
      glass.style.top = v * 100 + "%";
      glass.style.backgroundSize = `${box.width * scale}px ${box.height * scale}px`;
      glass.style.backgroundPosition = `${radius - px * box.width * scale}px ${radius - py * box.height * scale}px`;
    });
  });
  apply();
})();
