"use strict";
// All words of the search must stand in a photo's own.
const field = document.querySelector("#search");
const told = document.querySelector("#found");
const photos = [...document.querySelectorAll(".photo")];
function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const photo of photos) {
    photo.hidden = !words.every((word) => photo.dataset.words.includes(word));
    found += !photo.hidden;
  }
  told.textContent = `${found} of ${photos.length} photos`;
}
field.addEventListener("input", search);
if (location.hash.length > 1) field.value = decodeURIComponent(location.hash.slice(1));
search();
