// The handle between before and after: its place is kept when the picture below it is made anew.
window.rmbgSplit = (handle) => {
  document.documentElement.style.setProperty("--split", handle.value + "%");
  window.rmbgSplitValue = handle.value;
};
// On a phone the result lies below what was pressed for it.
window.rmbgShowResult = () => {
  if (window.innerWidth < 700) document.querySelector("#result")?.scrollIntoView({ block: "start" });
};
// Gradio's example pictures are buttons without a name; the file's name is theirs.
const nameExamples = () => {
  document.querySelectorAll(".gallery-item:not([aria-label]) img").forEach((picture) => {
    const file = decodeURIComponent(picture.src.split("/").pop()).replace(/\.\w+$/, "");
    picture.closest("button")?.setAttribute("aria-label", `Example: ${file}`);
  });
};
new MutationObserver(() => {
  nameExamples();
  document.querySelectorAll("input.split:not([data-ready])").forEach((handle) => {
    handle.dataset.ready = "yes";
    handle.value = window.rmbgSplitValue ?? 50;
    window.rmbgSplit(handle);
  });
}).observe(document.documentElement, { childList: true, subtree: true });
