// Clean-up: while the controls change, the server draws the picture in the viewer at reduced size, a draft. When they rest, an event
// of Gradio stores the settings and replaces it by the preview.
(() => {
  const PAUSE = 150; // milliseconds without a change, and with its draft displayed, until the controls rest
  const PATIENCE = 30_000; // milliseconds until a download does not wait any longer
  const WAITS = "#save, #strip-zip, [data-viewer=copy]"; // need the settings on the server
  const DEFAULTS = { largest: false, specks: 0, holes: 0, smooth: 0, shift: 0, feather: 0, invert: false };
  let wanted = null, running = false; // the draft to request next, and whether one is requested
  let timer = 0, sent = 0, result = "", waiting = []; // of the settings that the server does not have yet

  const value = (name) => {
    const input = document.querySelector(`#clean-${name} input`);
    return input.type === "checkbox" ? input.checked : Number(input.value);
  };
  const request = async () => {
    if (running) return;
    running = true;
    while (wanted) {
      const { edition, ...body } = wanted;
      wanted = null;
      try {
        const response = await fetch(`${window.gradio_config?.root ?? ""}/gradio_api/draft`, {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        });
        if (response.ok) await window.rmbgViewer.showDraft(edition, body.view, await response.json());
      } catch {
        // The preview follows in any case.
      }
    }
    running = false;
    if (timer) rest(); // the preview would take the processor from the draft
  };
  const rest = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (running ? rest() : send()), PAUSE);
  };
  const draw = (edges) => {
    const scene = window.rmbgViewer.scene(), view = window.rmbgViewer.view();
    if (!scene) return;
    rest();
    result = scene.result;
    if (view === "original") return;
    const strokes = !document.documentElement.hasAttribute("data-retouch");
    wanted = { edition: scene.edition, token: window.rmbgVisit.tokens()[0], result, edges, view, strokes };
    request();
  };
  const send = () => {
    clearTimeout(timer);
    timer = 0;
    sent += 1;
    document.querySelector("#clean-send").click();
  };
  const reset = () => {
    draw(DEFAULTS);
    return Object.values(DEFAULTS);
  };
  const applied = () => {
    sent -= 1;
    if (!sent && !timer) for (const resolve of waiting.splice(0)) resolve();
  };

  document.addEventListener("input", (event) => {
    const name = Object.keys(DEFAULTS).find((name) => event.target.closest?.(`#clean-${name}`));
    if (!name) return;
    const { type, checked, value: text } = event.target; // the other field of a slider follows later
    draw({ ...Object.fromEntries(Object.keys(DEFAULTS).map((each) => [each, value(each)])), [name]: type === "checkbox" ? checked : Number(text) });
  });
  rmbgClickAfter(WAITS, () => timer || sent, () => new Promise((resolve) => {
    waiting.push(resolve);
    setTimeout(resolve, PATIENCE);
    if (timer) send();
  }));
  window.rmbgDrafts = { result: () => result, reset, applied };
})();
