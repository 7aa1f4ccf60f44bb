// The selected tab is part of the page's address, so that Back, Forward, a reload and links select it.
(() => {
  let applied = false; // the tab of the address was selected after the page was loaded
  let pending = null; // id of the tab that `select` has clicked, until it is selected

  const ids = () => (window.gradio_config?.components ?? []).filter((part) => part.type === "tabitem").map((part) => part.props.id);
  const selected = () => document.querySelector("[role=tab][aria-selected=true]")?.dataset.tabId;
  const addressed = () => {
    const id = new URLSearchParams(location.search).get("tab");
    return ids().includes(id) ? id : ids()[0];
  };
  // On a narrow screen some tabs are in a menu, in their order and without their ids.
  const shown = (id) => document.querySelector(`[role=tab][data-tab-id="${CSS.escape(id)}"]`);
  const button = (id) =>
    shown(id) ?? document.querySelectorAll(".overflow-dropdown button")[ids().filter((other) => !shown(other)).indexOf(id)];
  const select = (id) => {
    if (id === selected()) return true;
    const target = button(id);
    if (!target) return false;
    pending = id;
    target.click();
    return true;
  };
  const synchronize = () => {
    const current = selected();
    if (!current) return;
    if (pending === current) pending = null;
    if (pending) return;
    if (!applied) {
      applied = select(addressed());
    } else if (current !== addressed()) {
      const address = new URL(location.href);
      if (current === ids()[0]) address.searchParams.delete("tab");
      else address.searchParams.set("tab", current);
      history.pushState(null, "", address);
    }
  };
  window.rmbgTabs = { select, selected };
  addEventListener("popstate", () => select(addressed()));
  rmbgObserve(synchronize, "aria-selected");
})();
// Keyboard of the tabs, as in the ARIA pattern: arrow keys, Home and End select a tab, and Tab leaves them.
(() => {
  const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    if (!tab || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const tabs = [...tab.closest("[role=tablist]").querySelectorAll("[role=tab]:not(:disabled)")];
    let next = null;
    if (event.key in STEPS) next = tabs[(tabs.indexOf(tab) + STEPS[event.key] + tabs.length) % tabs.length];
    if (event.key === "Home") next = tabs[0];
    if (event.key === "End") next = tabs.at(-1);
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
  rmbgObserve(() => {
    document.querySelectorAll("[role=tab]").forEach((tab) => (tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1));
  }, "aria-selected");
})();
