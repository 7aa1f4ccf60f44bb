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
  const button = (id) => {
    const shown = document.querySelector(`[role=tab][data-tab-id="${CSS.escape(id)}"]`);
    if (shown) return shown;
    const hidden = ids().filter((other) => !document.querySelector(`[role=tab][data-tab-id="${CSS.escape(other)}"]`));
    return document.querySelectorAll(".overflow-dropdown button")[hidden.indexOf(id)];
  };
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
  new MutationObserver(synchronize).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"],
  });
})();
