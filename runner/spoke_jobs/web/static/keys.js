// Keys for those who do not want to reach for the mouse: / searches, j and k move along a list. Somebody who speaks to
// their computer may press such keys by mistake, so a box turns them off (WCAG 2.1.4).
"use strict";
(() => {
  const ITEMS = "tbody tr, .groups > li, section.failure, section.schedule";
  const TARGET = "a[href], button, summary";
  const box = document.getElementById("keys");
  const { search } = document.currentScript.dataset; // a page with fields to search for jobs

  function items() {
    const all = [...document.querySelectorAll(ITEMS.split(", ").map((each) => `main ${each}`).join(", "))];
    return all.map((item) => ({ item, target: item.querySelector(TARGET) })).filter(({ target }) => target !== null);
  }

  function move(step) {
    const all = items();
    const here = all.findIndex(({ item }) => item.contains(document.activeElement));
    const next = here === -1 ? all.at(step > 0 ? 0 : -1) : all[here + step];
    if (next === undefined) return;
    next.target.focus({ focusVisible: true });
    next.target.scrollIntoView({ block: "nearest" });
  }

  function find() {
    const field = document.querySelector("main form[role=search] input:not([type=hidden])");
    if (field === null) {
      location.assign(search);
    } else {
      field.focus();
      field.select();
    }
  }

  const DOES = { "/": find, j: () => move(1), k: () => move(-1) };

  document.addEventListener("keydown", (event) => {
    if (!box.checked || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const { target } = event;
    if (event.key === "Escape" && target !== document.body) target.blur(); // updates go on
    if (!Object.hasOwn(DOES, event.key) || target.closest("input:not([type=checkbox]), select, textarea")) return;
    event.preventDefault();
    DOES[event.key]();
  });

  box.closest("[hidden]").hidden = false;
})();
