// On a phone the result is below the button.
window.rmbgShowResult = () => {
  if (window.innerWidth < 700) document.querySelector("#result")?.scrollIntoView({ block: "start" });
};
// Gradio's example buttons have no accessible name; the file name is used as their label.
const nameExamples = () => {
  document.querySelectorAll(".gallery-item:not([aria-label]) img").forEach((picture) => {
    const file = decodeURIComponent(picture.src.split("/").pop()).replace(/\.\w+$/, "");
    picture.closest("button")?.setAttribute("aria-label", `Example: ${file}`);
  });
};
new MutationObserver(nameExamples).observe(document.documentElement, { childList: true, subtree: true });
