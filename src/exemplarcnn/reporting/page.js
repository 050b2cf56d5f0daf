"use strict";

// A picture opens large: in the same dialog, from the same bytes. Escape closes a dialog by itself.
const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const shown = button.querySelector("img");
    large.src = shown.src;
    large.alt = shown.alt;
    dialog.querySelector("p").textContent = shown.alt;
    dialog.showModal();
    dialog.querySelector(".all").scrollTo(0, 0);
  });
}
large.addEventListener("click", () => dialog.close());

// Classes: of one kind or all, in one order, some at a time.
const AT_ONCE = 24;
const ORDERS = {
  number: (one, other) => one.number - other.number,
  largest: (one, other) => other.size - one.size || one.number - other.number,
  tightest: (one, other) => one.tightness - other.tightness || one.number - other.number,
  loosest: (one, other) => other.looseness - one.looseness || one.number - other.number,
};
for (const browser of document.querySelectorAll(".browser")) {
  const form = browser.querySelector("form");
  const list = browser.querySelector("ol");
  const more = browser.querySelector(".more");
  const items = [...list.children].map((item) => ({
    item,
    origin: item.dataset.origin,
    number: Number(item.dataset.number),
    size: Number(item.dataset.size),
    // A class of one image is neither tight nor loose: it comes last.
    tightness: item.dataset.width === "" ? Infinity : Number(item.dataset.width),
    looseness: item.dataset.width === "" ? -1 : Number(item.dataset.width),
  }));
  let shown = AT_ONCE;
  const show = () => {
    const { origin, size, order } = form.elements;
    const fits = (each) =>
      (!origin.value || each.origin === origin.value) && (!size.value || each.size === Number(size.value));
    const found = items.filter(fits).sort(ORDERS[order.value]);
    items.forEach((each) => (each.item.hidden = true));
    found.forEach((each, place) => {
      list.append(each.item);
      each.item.hidden = place >= shown;
    });
    form.querySelector("output").textContent = `${Math.min(shown, found.length)} of ${found.length} classes`;
    more.hidden = found.length <= shown;
  };
  form.addEventListener("change", () => {
    shown = AT_ONCE;
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const next = shown;
    shown += AT_ONCE;
    show();
    // The keyboard goes on where it was: at the first class that is new.
    const first = [...list.children].filter((item) => !item.hidden)[next];
    first.tabIndex = -1;
    first.focus();
  });
  form.hidden = false;
  show();
}

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));
