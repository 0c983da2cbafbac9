// Prints the document with the list before its rows arrive. The server puts the first rows where it says "Loading…", so that they are
// seen before the script runs.

import { readFileSync } from "node:fs";
import renderToString from "preact-render-to-string";
import { App } from "./app.jsx";

globalThis.location = { hash: "" };
globalThis.sessionStorage = { getItem: () => null };

const empty = '<div id="app"></div>';
const overview = { rows: new Map(), head: null, version: 0, connection: "connecting" };
const list = renderToString(<App overview={overview} />);
process.stdout.write(readFileSync("index.html", "utf8").replace(empty, `<div id="app">${list}</div>`));
