// A picture that is pasted or dropped anywhere on the page is passed to the photo field of the selected tab. Several pictures,
// folders and zip archives are passed to the Batch tab.
(() => {
  const FIELDS = { remove: "#photo", batch: "#batch-files", compare: "#compare-photo", replace: "#replace-photo" };
  const TYPES = {
    avif: "avif", bmp: "bmp", gif: "gif", heic: "heic", heif: "heif", jpeg: "jpeg", jpg: "jpeg", jp2: "jp2", png: "png",
    tif: "tiff", tiff: "tiff", webp: "webp",
  };
  const NOTICE_SECONDS = 12;
  const forwarded = new WeakSet(); // drop events that this script dispatches
  let internal = false; // the drag began on this page

  // Resolves to the element once it exists; rejects after 20 seconds.
  const element = (selector) => new Promise((resolve, reject) => {
    const find = () => {
      const found = document.querySelector(selector);
      if (found) resolve(found), observer.disconnect();
      return found;
    };
    const observer = new MutationObserver(find);
    observer.observe(document.documentElement, { childList: true, subtree: true });
    if (!find()) setTimeout(() => (observer.disconnect(), reject(new Error(selector))), 20000);
  });

  // Browsers leave the type empty for formats that they do not know.
  const typeOf = (file) => {
    const type = TYPES[file.name.split(".").pop().toLowerCase()];
    return file.type || (type ? `image/${type}` : "");
  };
  const addressOf = (data) => {
    const lines = (data.getData("text/uri-list") || data.getData("text/plain")).trim().split(/\r?\n/);
    const address = lines.find((line) => !line.startsWith("#")) ?? "";
    return /^https?:\/\/\S+$/i.test(address) ? address : "";
  };

  const make = (tag, id, properties) => {
    const part = Object.assign(document.createElement(tag), properties);
    if (id) part.id = id;
    return part;
  };
  // Created once: a live region has to exist before its text changes.
  const notice = () => {
    const shown = document.querySelector("#page-notice");
    if (shown) return shown;
    const created = make("div", "page-notice", { className: "notice info", hidden: true });
    const status = make("span", "", { role: "status" });
    const close = make("button", "", { type: "button", textContent: "✕", onclick: () => tell("") });
    close.setAttribute("aria-label", rmbgText("Close the message"));
    created.append(status, close);
    document.body.append(created);
    return created;
  };
  let timer = 0;
  const tell = (text) => {
    const shown = notice();
    shown.hidden = !text;
    clearTimeout(timer);
    // After the region is displayed, so that screen readers announce the change.
    setTimeout(() => (shown.firstElementChild.textContent = text), 50);
    if (text) timer = setTimeout(() => tell(""), NOTICE_SECONDS * 1000);
  };
  const hint = (visible) => {
    let shown = document.querySelector("#drop-hint");
    if (!shown && visible) {
      shown = make("div", "drop-hint", { textContent: rmbgText("Drop the photo anywhere on the page") });
      shown.setAttribute("aria-hidden", "true");
      document.body.append(shown);
    }
    if (shown) shown.hidden = !visible;
  };

  // Gradio's own handler of dropped files replaces the picture of the field and uploads the new one.
  const drop = (area, files) => {
    const data = new DataTransfer();
    files.forEach((file) => data.items.add(new File([file], file.name, { type: typeOf(file) })));
    const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data });
    forwarded.add(event);
    area.dispatchEvent(event);
  };
  const deliver = async (file) => {
    if (!FIELDS[window.rmbgTabs.selected()]) window.rmbgTabs.select("remove");
    const field = FIELDS[window.rmbgTabs.selected()] ?? FIELDS.remove;
    drop(await element(`${field} .upload-container`), [file]);
  };
  const load = async (address) => {
    if (window.rmbgTabs.selected() !== "remove") {
      window.rmbgTabs.select("remove");
      tell(rmbgText("The picture of an address is loaded in the Remove tab."));
    }
    const field = await element("#address :is(input, textarea)");
    field.value = address;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => document.querySelector("#load").click(), 100); // Gradio reads the value after an update of the page
  };
  const isZip = (file) => /\.zip$/i.test(file.name);
  // Replaces the files of the Batch tab, as a drop on another field replaces its picture.
  const deliverAll = async (files) => {
    window.rmbgTabs.select("batch");
    const { files: limit, bytes } = (await element("#batch-limits")).dataset;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    if (files.length > limit) return tell(rmbgText("{count} pictures were received. A batch has at most {limit}.", { count: files.length, limit }));
    const sizes = { size: Math.ceil(size / 1e6), limit: Math.floor(bytes / 1e6) };
    if (size > bytes) return tell(rmbgText("The pictures have {size} MB, more than the limit of {limit} MB for a batch.", sizes));
    document.querySelector("#batch-files button[aria-label='Clear']")?.click();
    drop(await element("#batch-files .upload-container:not(.icon-mode)"), files);
  };
  // The files below a dropped folder; browsers return the entries of a folder in several parts.
  const filesBelow = async (entry) => {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader();
    const entries = [];
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length || entries.length > 10000) break;
      entries.push(...part);
    }
    return (await Promise.all(entries.filter((child) => !child.name.startsWith(".")).map(filesBelow))).flat();
  };
  const receive = async (data, missing) => {
    // The entries are read first: the data of an event is empty after the first wait.
    const entries = [...(data.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...data.files];
    const address = addressOf(data);
    const folders = entries.some((entry) => entry.isDirectory);
    const files = folders ? (await Promise.all(entries.map(filesBelow))).flat() : plain;
    const pictures = files.filter((file) => typeOf(file).startsWith("image/") || isZip(file));
    tell("");
    if (pictures.length && pictures.length < files.length) tell(rmbgText("{count} files are no pictures and were left out.", { count: files.length - pictures.length }));
    if (pictures.length && (folders || pictures.length > 1 || pictures.some(isZip) || window.rmbgTabs.selected() === "batch")) {
      deliverAll(pictures);
    } else if (pictures.length) deliver(pictures[0]);
    else if (files.length) tell(rmbgText("{name} is not a picture. Choose a JPEG, PNG or WebP file.", { name: files[0].name }));
    else if (address) load(address);
    else tell(missing);
  };

  const isText = (target) =>
    target instanceof Element &&
    (target.isContentEditable || target.matches("textarea, input:not([type=radio], [type=checkbox], [type=range], [type=file])"));
  // True for drags that are not for this script: within the page, text onto a text field, and onto another picture field.
  const isForeign = (event) => {
    if (internal || forwarded.has(event) || !event.dataTransfer) return true;
    if (isText(event.target) && !event.dataTransfer.types.includes("Files")) return true;
    const area = event.target instanceof Element ? event.target.closest(".upload-container") : null;
    return area !== null && !area.closest(Object.values(FIELDS).join());
  };

  addEventListener("dragstart", () => (internal = true), true);
  addEventListener("dragend", () => (internal = false), true);
  for (const name of ["dragenter", "dragover"]) {
    addEventListener(name, (event) => {
      const foreign = isForeign(event);
      hint(!foreign);
      if (foreign) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
    }, true);
  }
  addEventListener("dragleave", (event) => event.relatedTarget === null && hint(false), true);
  addEventListener("drop", (event) => {
    hint(false);
    if (isForeign(event)) return;
    event.preventDefault();
    event.stopPropagation();
    receive(event.dataTransfer, rmbgText("There is no picture in what was dropped. Drop a picture file or the address of a picture."));
  }, true);
  addEventListener("paste", (event) => {
    const data = event.clipboardData;
    if (!data || event.defaultPrevented) return;
    if (isText(event.target) && (data.getData("text/plain") || !data.files.length)) return;
    event.preventDefault();
    receive(data, rmbgText("The clipboard has no picture. Copy a picture or its address, then paste it."));
  });
  addEventListener("DOMContentLoaded", notice);
})();
