// Arrow keys: to the next and the previous page, outside of form fields. The pages work without it.
"use strict";
const KEYS = { ArrowRight: "next", ArrowLeft: "prev" };
document.addEventListener("keydown", (event) => {
  const relation = KEYS[event.key];
  if (!relation || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  const link = document.querySelector(`a[rel=${relation}]`);
  if (link) link.click();
});
// Empty fields would make the address long.
document.addEventListener("submit", (event) => {
  for (const field of event.target.querySelectorAll("input, select")) {
    if (field.value === "") field.disabled = true;
  }
});
window.addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form :disabled")) field.disabled = false;
});
// A photo that cannot be fetched leaves the crops at their places.
for (const picture of document.querySelectorAll("svg image, img.of-photo")) {
  picture.addEventListener("error", () => picture.remove());
  if (picture.complete && picture.naturalWidth === 0) picture.remove();
}
