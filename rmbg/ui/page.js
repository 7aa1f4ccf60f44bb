// The handle between before and after: its place is kept when the picture below it is made anew.
window.rmbgSplit = (handle) => {
  document.documentElement.style.setProperty("--split", handle.value + "%");
  window.rmbgSplitValue = handle.value;
};
new MutationObserver(() => {
  document.querySelectorAll("input.split:not([data-ready])").forEach((handle) => {
    handle.dataset.ready = "yes";
    handle.value = window.rmbgSplitValue ?? 50;
    window.rmbgSplit(handle);
  });
}).observe(document.documentElement, { childList: true, subtree: true });
