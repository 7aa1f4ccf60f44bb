// Texts of the scripts in the visitor's language, with named placeholders; "count" selects the plural form.
const { language: pageLanguage, texts: pageTexts } = window.rmbgLanguage;
const plurals = new Intl.PluralRules(pageLanguage);
window.rmbgText = (key, values = {}) => {
  const entry = pageTexts[key] ?? key;
  const text = typeof entry === "string" ? entry : entry[plurals.select(values.count)] ?? entry.other;
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => values[name] ?? placeholder);
};
document.documentElement.lang = pageLanguage;
// Requests to the server: `rmbgAsk` sends a text by the event of the hidden button `name`, and resolves to the answer, JSON.
window.rmbgRequests = {};
window.rmbgAsk = async (name, text = "") => JSON.parse(await new Promise((answered) => {
  window.rmbgRequests[name] = { text, answered };
  document.querySelector(`#${name}`).click();
}));
// Calls `action` after changes of the page: of its elements, and of the given attributes.
window.rmbgObserve = (action, ...attributeFilter) => {
  const attributes = attributeFilter.length ? { attributes: true, attributeFilter } : {};
  new MutationObserver(action).observe(document.documentElement, { childList: true, subtree: true, ...attributes });
};
// The result of `action` with a storage of the browser; null if it is disabled.
window.rmbgStorage = (name, action) => {
  try {
    return action(window[name]);
  } catch {
    return null;
  }
};
// A click on a button of `selector` waits for `finish` while `isPending`. Then it goes on in any case: a lost connection does not
// lock the button.
window.rmbgClickAfter = (selector, isPending, finish) => {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button");
    if (!button?.matches(selector) || !isPending() || button.dataset.waited) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    await finish();
    button.dataset.waited = "yes";
    button.click();
    delete button.dataset.waited;
  }, true);
};
window.rmbgClamp = (value, low, high) => Math.min(high, Math.max(low, value));
// The switch "Start at once", whose choice the browser keeps for later visits.
window.rmbgAtOnce = {
  load: () => rmbgStorage("localStorage", (storage) => storage.getItem("rmbg-at-once")) !== "off",
  store: (on) => void rmbgStorage("localStorage", (storage) => storage.setItem("rmbg-at-once", on ? "on" : "off")),
};
// Runs the provider after a click on the start button: each kind of provider has a hidden button, with a queue of its own.
window.rmbgRun = (kind) => {
  if (kind) document.querySelector(`#run-${kind}`).click();
};
// On a phone the result is below the button.
window.rmbgShowResult = () => {
  if (window.innerWidth < 700) document.querySelector("#result")?.scrollIntoView({ block: "start" });
};
// Gradio's example buttons have no accessible name; the file name is used as their label.
rmbgObserve(() => {
  document.querySelectorAll(".gallery-item:not([aria-label]) img").forEach((picture) => {
    const file = decodeURIComponent(picture.src.split("/").pop()).replace(/\.\w+$/, "");
    picture.closest("button")?.setAttribute("aria-label", rmbgText("Example: {name}", { name: file }));
  });
});
// Repairs of Gradio's controls for keyboards and screen readers.
const radioGroups = new WeakMap(); // fieldset to the name of its radio buttons
let radioGroupCount = 0;
rmbgObserve(() => {
  // Each radio button has a name of its own, and gets another one with each choice. With one name for the group the Tab key
  // reaches the group once, and the arrow keys move within it.
  document.querySelectorAll("fieldset:has(input[type=radio]:not([name^='group-']))").forEach((group) => {
    if (!radioGroups.has(group)) radioGroups.set(group, `group-${group.id || ++radioGroupCount}`);
    group.querySelectorAll("input[type=radio]").forEach((radio) => (radio.name = radioGroups.get(group)));
  });
  // An empty gallery has a label but no role.
  document.querySelectorAll("div.empty[aria-label]:not([role])").forEach((empty) => empty.setAttribute("role", "img"));
}, "name");
// Some systems report no type for HEIC files, and Gradio's picture fields reject files without a type.
const withoutType = (file) => !file.type && /\.hei[cf]$/i.test(file.name);
const setTypedFiles = (input, files) => {
  const transfer = new DataTransfer();
  [...files].forEach((file) => transfer.items.add(withoutType(file) ? new File([file], file.name, { type: "image/heic" }) : file));
  input.files = transfer.files;
};
document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.matches("input[type=file][accept*='image']") && [...input.files].some(withoutType)) setTypedFiles(input, input.files);
}, true);
document.addEventListener("drop", (event) => {
  const input = event.target.closest?.(".upload-container")?.querySelector("input[type=file][accept*='image']");
  if (!input || ![...event.dataTransfer.files].some(withoutType)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  setTypedFiles(input, event.dataTransfer.files);
  input.dispatchEvent(new Event("change", { bubbles: true }));
}, true);
