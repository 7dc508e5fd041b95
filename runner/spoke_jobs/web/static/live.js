// Reads the page's content again when the server says that something may have changed. Pages work without this file.
"use strict";
(() => {
  const STORED = "spoke-jobs-live-updates";
  const changes = document.currentScript.dataset.changes;
  const box = document.getElementById("live-updates");
  let stream = null;
  let pending = false;

  const content = () => document.getElementById("live");

  // Whether somebody reads, fills in or is about to click something: nothing must move under the pointer.
  function isInUse(live) {
    const fields = [...live.querySelectorAll("input:not([type=hidden]), select")];
    const selection = document.getSelection();
    return (
      live.querySelector("a:hover, button:hover, summary:hover, tbody tr:hover, li:hover, pre:hover") !== null ||
      live.querySelector("details[open]") !== null ||
      live.contains(document.activeElement) ||
      fields.some((field) => (field.type === "checkbox" ? field.checked : changed(field))) ||
      (selection !== null && !selection.isCollapsed && live.contains(selection.anchorNode))
    );
  }

  function changed(field) {
    if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
    const first = [...field.options].find((option) => option.defaultSelected) || field.options[0];
    return first !== undefined && field.value !== first.value;
  }

  function refresh() {
    const live = content();
    if (stream === null || live === null) return;
    pending = isInUse(live);
    if (!pending) htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "outerHTML" });
  }

  function follow() {
    const wanted = box.checked && !document.hidden;
    if (wanted && stream === null) {
      stream = new EventSource(changes);
      stream.addEventListener("changed", refresh);
    } else if (!wanted && stream !== null) {
      stream.close();
      stream = null;
      pending = false;
    }
  }

  // A page without the content is another one: the session has ended, for example.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.serverResponse.includes('id="live"')) return;
    event.detail.shouldSwap = false;
    box.checked = false;
    follow();
  });

  try {
    box.checked = localStorage.getItem(STORED) !== "no";
  } catch {
    box.checked = true; // the browser keeps nothing
  }
  box.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, box.checked ? "yes" : "no");
    } catch {
      // It holds for this page only.
    }
    follow();
  });
  document.addEventListener("visibilitychange", () => {
    follow();
    refresh();
  });
  setInterval(() => pending && refresh(), 1000);
  box.closest("[hidden]").hidden = false;
  follow();
})();
