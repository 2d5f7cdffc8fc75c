"use strict";
// The slider of each card moves the line between its two pictures.
document.addEventListener("input", (event) => {
  if (event.target.matches(".wipe")) {
    event.target.closest(".card").style.setProperty("--at", event.target.value + "%");
  }
});
