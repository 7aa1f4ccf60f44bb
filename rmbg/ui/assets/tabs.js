// Keyboard of the tabs, as in the ARIA pattern: arrow keys, Home and End select a tab, and Tab leaves them.
(() => {
  const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
  const tabsBeside = (tab) => [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]:not(:disabled)")];

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    if (!tab || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const tabs = tabsBeside(tab);
    let next = null;
    if (event.key in STEPS) next = tabs[(tabs.indexOf(tab) + STEPS[event.key] + tabs.length) % tabs.length];
    if (event.key === "Home") next = tabs[0];
    if (event.key === "End") next = tabs.at(-1);
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  const rove = () => {
    document.querySelectorAll("[role=tab]").forEach((tab) => (tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1));
  };
  new MutationObserver(rove).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"],
  });
})();
