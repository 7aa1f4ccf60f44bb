// Texts of the scripts in the visitor's language, with named placeholders; "count" selects the plural form.
const { language: pageLanguage, texts: pageTexts } = window.rmbgLanguage;
const plurals = new Intl.PluralRules(pageLanguage);
window.rmbgText = (key, values = {}) => {
  const entry = pageTexts[key] ?? key;
  const text = typeof entry === "string" ? entry : entry[plurals.select(values.count)] ?? entry.other;
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => values[name] ?? placeholder);
};
document.documentElement.lang = pageLanguage;
// Runs the provider after a click on the start button: each kind of provider has a hidden button, with a queue of its own.
window.rmbgRun = (kind) => {
  if (kind) document.querySelector(`#run-${kind}`).click();
};
// On a phone the result is below the button.
window.rmbgShowResult = () => {
  if (window.innerWidth < 700) document.querySelector("#result")?.scrollIntoView({ block: "start" });
};
// Gradio's example buttons have no accessible name; the file name is used as their label.
const nameExamples = () => {
  document.querySelectorAll(".gallery-item:not([aria-label]) img").forEach((picture) => {
    const file = decodeURIComponent(picture.src.split("/").pop()).replace(/\.\w+$/, "");
    picture.closest("button")?.setAttribute("aria-label", rmbgText("Example: {name}", { name: file }));
  });
};
new MutationObserver(nameExamples).observe(document.documentElement, { childList: true, subtree: true });
