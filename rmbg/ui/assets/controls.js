// Repairs of Gradio's controls for keyboards and screen readers.
const radioGroups = new WeakMap(); // fieldset to the name of its radio buttons
let radioGroupCount = 0;
new MutationObserver(() => {
  // Each radio button has a name of its own, and gets another one with each choice. With one name for the group the Tab key
  // reaches the group once, and the arrow keys move within it.
  document.querySelectorAll("fieldset:has(input[type=radio]:not([name^='group-']))").forEach((group) => {
    if (!radioGroups.has(group)) radioGroups.set(group, `group-${group.id || ++radioGroupCount}`);
    group.querySelectorAll("input[type=radio]").forEach((radio) => (radio.name = radioGroups.get(group)));
  });
  // An empty gallery has a label but no role.
  document.querySelectorAll("div.empty[aria-label]:not([role])").forEach((empty) => empty.setAttribute("role", "img"));
}).observe(document.documentElement, { childList: true, subtree: true, attributes: true, attributeFilter: ["name"] });
// Some systems report no type for HEIC files, and Gradio's picture fields reject files without a type.
const withoutType = (file) => !file.type && /\.hei[cf]$/i.test(file.name);
const setTypedFiles = (input, files) => {
  const transfer = new DataTransfer();
  [...files].forEach((file) => transfer.items.add(withoutType(file) ? new File([file], file.name, { type: "image/heic" }) : file));
  input.files = transfer.files;
};
document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.matches("input[type=file][accept*='image']") && [...input.files].some(withoutType)) setTypedFiles(input, input.files);
}, true);
document.addEventListener("drop", (event) => {
  const input = event.target.closest?.(".upload-container")?.querySelector("input[type=file][accept*='image']");
  if (!input || ![...event.dataTransfer.files].some(withoutType)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  setTypedFiles(input, event.dataTransfer.files);
  input.dispatchEvent(new Event("change", { bubbles: true }));
}, true);
