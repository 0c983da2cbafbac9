// The part of the URL after `#` says which view is shown, with which filters: everything that a link should carry.

export const VIEWS = ["wars", "actors", "actor", "object", "sources"];

/** Parses `#/wars?show=ongoing` into a view, its path and its parameters. What cannot be parsed leads to the list. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  const parameters = Object.fromEntries(new URLSearchParams(query));
  const parts = rest.map(decoded);
  const isWhole = { object: parts.length === 3, actor: parts.length === 1 }[view] ?? parts.length === 0;
  // A URL with these parts would lead elsewhere.
  const isPath = parts.every((part) => part !== null && part !== "" && part !== "." && part !== "..");
  if (!VIEWS.includes(view) || !isWhole || !isPath) return { view: "wars", rest: "", parts: [], parameters: {} };
  return { view, rest: rest.join("/"), parts, parameters };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/** Returns the link to a view. */
export function link(view, rest = "", parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return `#/${view}${rest ? `/${rest}` : ""}${query ? `?${query}` : ""}`;
}

/** Returns the link to an object. */
export const objectLink = (path) => `#/object/${path}`;
export const actorLink = (actor) => link("actor", encodeURIComponent(actor));

/** Changes parameters of the present view. Typing replaces the entry of the history instead of adding one for each letter. */
export function change(route, parameters, { replace = false } = {}) {
  const to = link(route.view, route.rest, { ...route.parameters, ...parameters });
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = to;
  }
}
