// Requests to the API of this server, and the stream of the overview.

import { plain } from "./format.js";

// The server sends a line at least every 10 seconds.
const SILENT_MS = 25_000;
const RETRY_MS = [500, 1000, 2000, 5000, 10_000];

export class Unauthorized extends Error {}

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { authorization: `Bearer ${token}` } : {};
}

async function request(url, options = {}) {
  const answer = await fetch(url, { headers: headers(), cache: "no-store", ...options });
  if (answer.status === 401) throw new Unauthorized("This server requires authentication.");
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const error = new Error(body.error ?? `${answer.status} ${answer.statusText}`);
  error.status = answer.status;
  throw error;
}

/** Returns the JSON that the API answers. */
export const ask = async (url, options) => (await request(url, options)).json();

/**
 * The rows of the overview, kept up to date by a stream. `onChange` is called after every change, at most once per frame.
 */
export class Overview {
  rows = new Map();
  head = null;
  /** Increases with each change of the rows. */
  version = 0;
  /** `connecting`, `live`, `lost` or `unauthorized`. */
  connection = "connecting";
  lostSince = null;
  error = "";
  #onChange;
  #isScheduled = false;
  #abort = null;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  async run() {
    for (let attempt = 0; ; attempt++) {
      const started = Date.now();
      try {
        await this.#read();
        throw new Error("the server closed the connection");
      } catch (error) {
        if (error instanceof Unauthorized) {
          this.connection = "unauthorized";
          this.#changed();
          return;
        }
        this.connection = "lost";
        this.lostSince ??= new Date().toISOString();
        this.error = plain(error.message);
        this.#changed();
      }
      if (Date.now() - started > 30_000) attempt = 0;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]));
    }
  }

  async #read() {
    this.#abort = new AbortController();
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
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) this.#apply(JSON.parse(line));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #apply({ reset, head, rows = [], gone = [] }) {
    if (reset) this.rows.clear();
    if (head) this.head = head;
    for (const id of gone) this.rows.delete(id);
    for (const row of rows) this.rows.set(row.id, row);
    if (reset || rows.length || gone.length) this.version++;
    this.connection = "live";
    this.lostSince = null;
    this.#changed();
  }

  #changed() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Not requestAnimationFrame, which does not run in background tabs.
    setTimeout(() => {
      this.#isScheduled = false;
      this.#onChange();
    }, 16);
  }
}
