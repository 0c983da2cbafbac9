// The page.

import { render } from "preact";
import { Overview } from "./api.js";
import { App } from "./app.jsx";
import { parse } from "./route.js";

// Nothing is shown before the first answer, unless it takes longer than one can notice: to show the page twice takes longer.
const SHOWN_AFTER_MS = 120;
const element = document.getElementById("app");
let isShown = false;
function show() {
  if (!isShown) render(<App overview={overview} />, element);
  isShown = true;
}
const overview = new Overview(() => {
  show();
  overview.listener?.();
});
overview.run();
// The first rows of the list may be part of the document, and are shown until there is an answer. They are wrong for any other URL.
const { view, parameters } = parse(location.hash);
const isRight = element.firstChild && view === "wars" && !Object.keys(parameters).length;
if (!element.firstChild) setTimeout(show, SHOWN_AFTER_MS);
else if (isRight) addEventListener("hashchange", show, { once: true });
else show();
