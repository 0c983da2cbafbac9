// Requests to the API of this server, and the stream of the overview.

import { useEffect, useRef, useState } from "preact/hooks";

// The server sends a line at least every 10 seconds.
const SILENT_MS = 25_000;
// How long a tab must be hidden for its stream to end.
const HIDDEN_MS = 30_000;
const RETRY_MS = [500, 1000, 2000, 5000, 10_000];

export class Unauthorized extends Error {}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function request(url, options = {}) {
  const answer = await fetch(url, { headers: headers(), cache: "no-store", ...options });
  if (answer.status === 401 || answer.status === 403) throw new Unauthorized("This server requires authentication.");
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const error = new Error(body.error ?? `${answer.status} ${answer.statusText}`);
  error.status = answer.status;
  throw error;
}

/** Returns the JSON that the API answers. */
export const ask = async (url, options) => (await request(url, options)).json();

/**
 * Asks again and again, one request at a time, while the tab is visible: at once when `version` changes, and else `every`
 * milliseconds. Returns the latest answer and the latest error. Answers of another URL are not shown.
 */
export function useAnswer(url, version, every) {
  const [state, setState] = useState({ url: null, found: null, error: "" });
  const [tick, setTick] = useState(0);
  /** The URL of the request in flight, and whether another one is wanted. */
  const busy = useRef(null);
  const again = useRef(false);
  useEffect(() => {
    if (busy.current === url) {
      again.current = true;
      return;
    }
    busy.current = url;
    again.current = false;
    const end = (next) => {
      if (busy.current !== url) return;
      busy.current = null;
      setState((was) => ({ found: was.url === url ? was.found : null, ...next, url }));
      if (again.current) setTick((n) => n + 1);
    };
    ask(url).then((found) => end({ found, error: "" }), (error) => end({ error: error.message }));
  }, [url, version, tick]);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setTick((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [every]);
  return state.url === url ? state : { found: null, error: "" };
}

/** Opens the JSON of a path in another tab. A link could not authenticate. */
export async function openJson(url) {
  const json = JSON.stringify(await ask(url), null, 2);
  open(URL.createObjectURL(new Blob([json], { type: "application/json" })));
}

/**
 * The rows of the overview, kept up to date by a stream. `onChange` is called after every change, at most once per frame.
 */
export class Overview {
  rows = new Map();
  head = null;
  /** Increases with each change of the rows. */
  version = 0;
  /** `connecting`, `starting` (the server reads its journal), `live`, `paused` (the tab is hidden), `lost` or `unauthorized`. */
  connection = "connecting";
  lostSince = null;
  error = "";
  #onChange;
  #isScheduled = false;
  #hasChanged = false;
  #abort = null;
  /** The rows of the first lines of a stream, until these are complete. */
  #incoming = null;

  constructor(onChange) {
    this.#onChange = onChange;
    let timer;
    // Browsers have few connections for a server, which other tabs need.
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (document.hidden) {
        timer = setTimeout(() => this.connection === "live" && this.#pause(), HIDDEN_MS);
      } else if (this.connection === "paused") {
        this.connection = "connecting";
        this.run();
      }
    });
  }

  #pause() {
    this.connection = "paused";
    this.#abort?.abort();
  }

  async run() {
    for (let attempt = 0; ; attempt++) {
      const started = Date.now();
      try {
        await this.#read();
        throw new Error("the server closed the connection");
      } catch (error) {
        if (this.connection === "paused") return;
        if (error instanceof Unauthorized) {
          this.connection = "unauthorized";
          this.#changed();
          return;
        }
        this.connection = "lost";
        this.lostSince ??= new Date().toISOString();
        this.error = error.message;
        this.#changed();
      }
      if (Date.now() - started > 30_000) attempt = 0;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
    }
  }

  async #read() {
    this.#abort = new AbortController();
    this.#incoming = null;
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#abort.abort(new Error("no answer for 25 seconds")), SILENT_MS);
    };
    alive();
    try {
      const answer = await request("api/v1/overview?watch=true", { signal: this.#abort.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      let isCurrent = false;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines.map((text) => JSON.parse(text))) {
          isCurrent ||= line.reset === true;
          if (isCurrent) {
            this.#apply(line);
          } else if (this.connection !== "starting") {
            this.connection = "starting";
            this.#changed();
          }
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #apply({ reset, head, rows = [], gone = [], complete }) {
    if (reset) this.#incoming = { rows: new Map(), head };
    const into = this.#incoming ?? this;
    for (const id of gone) into.rows.delete(id);
    for (const row of rows) into.rows.set(row.id, row);
    if (head) into.head = head;
    if (this.#incoming) {
      // What was shown before stays until all rows are there.
      if (!complete) return;
      ({ rows: this.rows, head: this.head } = this.#incoming);
      this.#incoming = null;
    }
    if (reset || rows.length || gone.length || complete) this.version++;
    this.connection = "live";
    this.lostSince = null;
    this.#changed();
  }

  #changed() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Not requestAnimationFrame, which does not run in background tabs. The first change is shown at once.
    setTimeout(() => {
      this.#isScheduled = false;
      this.#onChange();
    }, this.#hasChanged ? 16 : 0);
    this.#hasChanged = true;
  }
}
