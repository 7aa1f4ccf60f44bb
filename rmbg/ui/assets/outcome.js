// Outcomes of the page: messages and results are announced to screen readers, brought into view and focused.
(() => {
  if (window.rmbgShowOutcome) return;
  const regions = {};
  // Live regions are in the document before their text changes; screen readers ignore the first text of a new one.
  const addRegions = () => {
    for (const role of ["status", "alert"]) {
      regions[role] = document.createElement("div");
      regions[role].setAttribute("role", role);
      regions[role].className = "offstage";
      document.body.append(regions[role]);
    }
  };
  const announce = (text, role) => {
    regions[role].textContent = "";
    setTimeout(() => (regions[role].textContent = text), 100); // so that a repeated text is a change as well
  };

  const FIELDS = "textarea, select, [contenteditable=true], input:not([type=range], [type=radio], [type=checkbox], [type=color], [type=file])";
  const isTyping = () => document.activeElement?.matches(FIELDS) ?? false;
  const isShown = (element) => element.getClientRects().length > 0;

  // Scrolling before the browser's layout of new content would end at an old position.
  const afterLayout = (action) => requestAnimationFrame(() => requestAnimationFrame(action));
  const focus = (element) => {
    if (isTyping()) return;
    if (element.tabIndex !== -1 || !element.hasAttribute("tabindex")) element.tabIndex = -1;
    element.focus({ preventScroll: true });
  };
  const reveal = (element, block) => {
    const { top, bottom } = element.getBoundingClientRect();
    if (top < 0 || bottom > window.innerHeight) element.scrollIntoView({ block });
  };

  // Messages of all tabs. Errors, and all messages of the Remove tab, get the focus.
  const check = (container) => {
    const notices = [...container.querySelectorAll(".notice")];
    const text = notices.map((notice) => notice.textContent.trim()).join(" ");
    if (text === (container.dataset.announced ?? "")) return;
    container.dataset.announced = text;
    if (!text) return;
    const error = notices.find((notice) => notice.matches(".error"));
    announce(text, error ? "alert" : "status");
    if (!error && container.id !== "message") return;
    showMessage(container);
  };
  const showMessage = (container) => afterLayout(() => {
    const notice = container.querySelector(".notice");
    if (!notice || !isShown(notice)) return;
    reveal(notice, "center");
    focus(notice);
  });
  // Called after a click whose answer may be a question, outside of the Remove tab.
  window.rmbgShowMessage = (selector) => showMessage(document.querySelector(selector));

  // A preview is brought into view at once. Its cutout at full size changes the facts only.
  let previewed = "";
  const checkPreview = () => {
    const id = document.querySelector("#facts [data-preview]")?.dataset.preview;
    if (!id || id === previewed) return;
    previewed = id;
    window.rmbgShowOutcome();
  };
  window.rmbgShowFinished = () => {
    window.rmbgViewer.refine();
    const seen = previewed && window.rmbgViewer.scene()?.result === previewed;
    previewed = "";
    if (!seen) window.rmbgShowOutcome();
    else if (!document.querySelector("#message .notice")) announceResult();
  };

  const announceResult = () => announce(`${rmbgText("Result")}: ${document.querySelector("#facts").innerText.replace(/\s+/g, " ")}`, "status");
  // Called after a removal, and after the selection of an earlier result, which leaves the focus in the strip.
  window.rmbgShowOutcome = (takeFocus = true) => afterLayout(() => {
    const result = document.querySelector("#result");
    const notice = document.querySelector("#message .notice");
    if (!result?.querySelector(".stage")) return;
    if (window.innerWidth < 700) (notice ?? result).scrollIntoView({ block: "start" });
    else reveal(notice ?? result, "nearest");
    if (!notice) announceResult();
    if (!takeFocus || notice) return;
    result.setAttribute("role", "region");
    result.setAttribute("aria-label", rmbgText("Result"));
    focus(result);
  });

  // The accessible names of Gradio's thumbnails contain their number only.
  const nameThumbnails = () => {
    for (const button of document.querySelectorAll("#strip button.thumbnail-item")) {
      const caption = button.querySelector(".caption-label")?.textContent.trim();
      if (caption && button.getAttribute("aria-label") !== caption) button.setAttribute("aria-label", caption);
      if (caption && button.title !== caption) button.title = caption;
    }
  };

  const begin = () => {
    addRegions();
    new MutationObserver((records) => {
      const changed = new Set();
      for (const { target } of records) {
        const element = target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement;
        const container = element?.closest("[id$=message]");
        if (container) changed.add(container);
      }
      changed.forEach(check);
      checkPreview();
      nameThumbnails();
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  };
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
