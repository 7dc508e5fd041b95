// The element <spoke-progress src="ADDRESS/TOKEN">, which shows how far a job is. It needs no other file, and works under
// a Content-Security-Policy that allows this script and connections to the address. docs/how-to/progress.md describes it.
"use strict";
(() => {
  const POLL_MS = 5000;
  const SLOWEST_POLL_MS = 60000;
  const SILENCE_MS = 30000; // the server says something every 15 seconds, so a proxy keeps the events
  const TEXTS = {
    waiting: "Waiting",
    running: "In progress",
    succeeded: "Done",
    failed: "Failed",
    ended: "Ended",
    gone: "No longer available",
  };
  const CSS = `
    :host { display: block; }
    :host([hidden]) { display: none; }
    [part="bar"] { border: 1px solid currentColor; border-radius: 0.3em; block-size: 0.8em; overflow: hidden; }
    [part="fill"] { background: var(--spoke-progress-color, #2563eb); block-size: 100%; inline-size: 0; }
    [part="text"] { margin: 0.3em 0 0; overflow-wrap: anywhere; }
    [hidden] { display: none; }
    @media (forced-colors: active) { [part="fill"] { background: Highlight; forced-color-adjust: none; } }
  `;
  let styles = null;

  function sheets() {
    if (styles === null) {
      styles = new CSSStyleSheet();
      styles.replaceSync(CSS);
    }
    return [styles];
  }

  function made(name, part, ...children) {
    const element = document.createElement(name);
    element.setAttribute("part", part);
    element.append(...children);
    return element;
  }

  function write(element, text) {
    if (element.textContent !== text) element.textContent = text; // a screen reader would read the same text again
  }

  class SpokeProgress extends HTMLElement {
    static observedAttributes = ["src", "label"];
    #fill = made("div", "fill");
    #bar = made("div", "bar", this.#fill);
    #state = made("span", "state");
    #message = made("bdi", "message"); // its direction does not change that of the text before it
    #percent = made("span", "percent");
    #source = null;
    #request = null;
    #timer = 0;
    #polls = false;
    #failures = 0;
    #seen = false;
    #over = false;
    #onVisibility = () => this.#follow();

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open" });
      this.#bar.setAttribute("role", "progressbar");
      this.#bar.setAttribute("aria-valuemin", "0");
      this.#bar.setAttribute("aria-valuemax", "100");
      this.#state.setAttribute("role", "status");
      root.append(this.#bar, made("p", "text", this.#state, " ", this.#percent, " ", this.#message));
      if ("adoptedStyleSheets" in root) root.adoptedStyleSheets = sheets();
    }

    connectedCallback() {
      document.addEventListener("visibilitychange", this.#onVisibility);
      this.#name();
      this.#follow();
    }

    disconnectedCallback() {
      document.removeEventListener("visibilitychange", this.#onVisibility);
      this.#stop();
    }

    attributeChangedCallback(name, before, now) {
      if (!this.isConnected || before === now) return;
      if (name === "label") {
        this.#name();
        return;
      }
      this.#polls = this.#seen = this.#over = false;
      this.#failures = 0;
      this.#follow();
    }

    #name() {
      this.#bar.setAttribute("aria-label", this.getAttribute("label") || "Progress");
    }

    // Nothing is followed that nobody sees: a browser opens few connections to a server at a time.
    #follow() {
      this.#stop();
      if (!this.isConnected || document.hidden || this.#over || !this.getAttribute("src")) return;
      if (this.#polls || typeof EventSource !== "function") this.#poll();
      else this.#listen();
    }

    #stop() {
      clearTimeout(this.#timer);
      if (this.#source !== null) this.#source.close();
      if (this.#request !== null) this.#request.abort();
      this.#source = this.#request = null;
    }

    #address(below) {
      const address = new URL(this.getAttribute("src"), document.baseURI);
      address.pathname = address.pathname.replace(/\/$/, "") + below;
      return address.href;
    }

    #listen() {
      const source = new EventSource(this.#address("/events"));
      const heard = () => {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#pollInstead(), SILENCE_MS);
      };
      source.addEventListener("alive", heard);
      source.addEventListener("progress", (event) => {
        heard();
        this.#show(JSON.parse(event.data));
      });
      source.addEventListener("gone", () => this.#end());
      // A browser opens a stream again by itself, but not after an answer that is none: the token has expired, there are
      // too many streams, or a proxy answers.
      source.addEventListener("error", () => {
        if (source.readyState === EventSource.CLOSED) this.#pollInstead();
      });
      this.#source = source;
      heard();
    }

    #pollInstead() {
      this.#polls = true;
      this.#follow();
    }

    async #poll() {
      const request = new AbortController();
      this.#request = request;
      try {
        const answer = await fetch(this.#address(""), {
          cache: "no-store",
          redirect: "error",
          referrerPolicy: "no-referrer",
          signal: request.signal,
        });
        if (answer.status === 404 || answer.status === 410) {
          this.#end();
          return;
        }
        if (!answer.ok) throw new Error(answer.statusText);
        const view = await answer.json();
        if (request.signal.aborted) return;
        this.#failures = 0;
        this.#show(view);
      } catch {
        if (request.signal.aborted) return;
        this.#failures += 1; // the server may be restarting
      }
      if (!this.#over) {
        const wait = Math.min(POLL_MS * 2 ** this.#failures, SLOWEST_POLL_MS);
        this.#timer = setTimeout(() => this.#follow(), wait);
      }
    }

    #show(view) {
      this.#seen = true;
      this.#over = view.ended === true;
      const percent = Math.min(Math.max(Math.round(Number(view.percent) || 0), 0), 100);
      this.#draw(Object.hasOwn(TEXTS, view.state) ? view.state : "running", percent, String(view.message || ""));
    }

    // There is no row, or no longer: the job is over, or the token has expired.
    #end() {
      this.#over = true;
      this.#draw(this.#seen ? "ended" : "gone", 0, "");
    }

    #draw(state, percent, message) {
      const moves = state === "waiting" || state === "running" || state === "succeeded";
      this.#bar.hidden = this.#percent.hidden = !moves;
      this.#bar.setAttribute("aria-valuenow", String(percent));
      this.#bar.setAttribute("aria-valuetext", message ? `${percent} %, ${message}` : `${percent} %`);
      this.#fill.style.inlineSize = `${percent}%`; // a property, which the policy allows, and not an attribute
      write(this.#state, this.getAttribute(`text-${state}`) || TEXTS[state]);
      write(this.#percent, state === "running" ? `${percent} %` : "");
      write(this.#message, message);
      this.setAttribute("state", state);
      if (this.#over) this.#stop();
      const detail = { state, percent: moves ? percent : null, message, ended: this.#over };
      this.dispatchEvent(new CustomEvent("spoke-progress", { bubbles: true, composed: true, detail }));
    }
  }

  if (customElements.get("spoke-progress") === undefined) customElements.define("spoke-progress", SpokeProgress);
})();
