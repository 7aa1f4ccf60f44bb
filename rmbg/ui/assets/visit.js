// After a reload, the page finds its session on the server by a token. The token of an open page is in memory only. It is in
// sessionStorage, which belongs to one tab, from the end of a page to the start of the next one.
(() => {
  const KEY = "rmbg-visit";
  const MAX_TOKENS = 3;
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  let token = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  let earlier = ""; // tokens of previous pages, until the server has answered
  const access = (action) => rmbgStorage("sessionStorage", action) ?? "";
  const forget = () => access((storage) => storage.removeItem(KEY));
  // The mark "~" is for a page that may still be open: browsers end hidden pages without an event.
  const store = (mark) => {
    const tokens = [...earlier.split(" "), token && mark + token].filter(Boolean).slice(-MAX_TOKENS).join(" ");
    if (tokens) access((storage) => storage.setItem(KEY, tokens));
  };
  earlier = access((storage) => storage.getItem(KEY));
  forget();

  window.rmbgVisit = {
    tokens: () => [token, earlier],
    // Called when the server has answered; `found` if it has the session of an earlier page.
    resumed(found) {
      earlier = "";
      if (found) document.querySelector("#visit-restore").click();
    },
    restart() {
      token = earlier = "";
      location.reload();
    },
  };
  addEventListener("pagehide", () => store(""));
  document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? store("~") : forget()));
  // A page from the browser's cache has lost its connection, and its session may belong to a later page of this tab.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
})();
