// Reads the page's content again when the server says that something may have changed. Pages work without this file.
"use strict";
(() => {
  const AGAIN_MS = 30000;
  const NOTE_MS = 30000; // how long a note says what somebody has done: another one may have undone it since
  const loadedAt = Date.now();
  const changes = document.currentScript.dataset.changes;
  const box = document.getElementById("live-updates");
  const waits = document.getElementById("updates-wait");
  let stream = null;
  let pending = false;
  let reading = false; // whether an answer is awaited
  let readAt = loadedAt;
  let place = null; // where somebody has scrolled to in the output; null: to its end

  function setPending(value) {
    pending = value;
    const text = value ? "An update waits while you use this page." : "";
    if (waits.textContent !== text) waits.textContent = text;
  }

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
    setPending(isInUse(live));
    if (!pending) htmx.ajax("GET", address(), { target: "#live", select: "#live", swap: "outerHTML" });
  }

  // The output of a running attempt changes more often than the rest of the page, and is read alone. The answer is the
  // page of the output, which has another title.
  function readOutput() {
    const live = content();
    const output = live && live.querySelector("[data-follows]");
    if (stream === null || pending || reading || !output) return;
    if (Date.now() < readAt + 1000 * output.dataset.againSeconds) return;
    setPending(isInUse(live));
    const swap = { target: "#job-output", select: "#job-output", swap: "outerHTML ignoreTitle:true" };
    if (!pending) htmx.ajax("GET", output.dataset.follows, swap);
  }

  const followed = () => document.querySelector("[data-follows] pre");

  function keepPlace() {
    const lines = followed();
    const atEnd = lines === null || lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 2;
    place = atEnd ? null : lines.scrollTop;
  }

  function showPlace() {
    const lines = followed();
    if (lines !== null) lines.scrollTop = place === null ? lines.scrollHeight : place;
  }

  function address() {
    const here = new URL(location.href.split("#")[0]); // htmx would scroll to the fragment
    if (Date.now() - loadedAt > NOTE_MS && here.searchParams.has("said")) here.searchParams.delete("said");
    return here.href;
  }

  function follow() {
    const wanted = box.checked && !document.hidden;
    if (wanted && stream === null) {
      stream = new EventSource(changes);
      stream.addEventListener("changed", refresh);
      stream.addEventListener("error", tryAgain);
    } else if (!wanted && stream !== null) {
      stream.close();
      stream = null;
      setPending(false);
    }
  }

  // A browser opens a stream again by itself, but not after an answer that is none: a proxy gives one while the server
  // restarts, and the server if there are too many streams. The page is read now, because the session may have ended.
  function tryAgain() {
    if (stream === null || stream.readyState !== EventSource.CLOSED) return;
    refresh();
    stream = null;
    setTimeout(follow, AGAIN_MS);
  }

  document.addEventListener("htmx:beforeSend", (event) => {
    reading = true;
    event.detail.xhr.addEventListener("loadend", () => {
      reading = false;
      readAt = Date.now();
    });
  });

  // A page without the content is another one: the session has ended, for example. After an error of the server, of
  // its database or of a proxy, the next event reads the page again.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const live = content();
    if (event.detail.serverResponse.includes('id="live"')) {
      if (box.checked && !isInUse(live)) {
        keepPlace();
        event.detail.shouldSwap = true; // also what says that a task is gone: htmx swaps no content with status 404
        return;
      }
      setPending(box.checked); // somebody has begun to use the content since it was asked for
    } else if (event.detail.xhr.status < 500) {
      box.checked = false;
      follow();
    }
    event.detail.shouldSwap = false;
  });

  box.addEventListener("change", follow);
  document.addEventListener("visibilitychange", () => {
    follow();
    refresh();
  });
  document.addEventListener("spoke-jobs:zone", refresh);
  document.addEventListener("htmx:afterSwap", showPlace);
  setInterval(() => pending && refresh(), 1000);
  setInterval(readOutput, 1000);
  showPlace();
  box.closest("[hidden]").hidden = false;
  follow();
})();
