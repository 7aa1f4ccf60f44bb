// The browser keeps the choice of the switch "Start at once" for later visits.
(() => {
  const KEY = "rmbg-at-once";
  const access = (action) => {
    try {
      return action(localStorage);
    } catch {
      return null; // storage is disabled
    }
  };
  window.rmbgAtOnce = {
    load: () => access((storage) => storage.getItem(KEY)) !== "off",
    store: (on) => void access((storage) => storage.setItem(KEY, on ? "on" : "off")),
  };
})();
