// Renders the answers of the query API as a page. Data from outside is always inserted as text, never as markup.

const REFRESH_MS = 5000;
const COLOURS = ["#2563eb", "#d9480f", "#0b7a43", "#9333ea", "#b4155f", "#8a6100", "#0e7490", "#525b66"];
const main = document.getElementById("main");
const filter = document.getElementById("filter");
const login = document.getElementById("login");

/** Creates an element with attributes and children. Strings become text nodes. */
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else element.setAttribute(key, key === "aria-label" ? plain(value) : value);
  }
  const shown = children.flat(9).filter((child) => child !== null && child !== undefined);
  element.append(...shown.map((child) => (typeof child === "string" ? plain(child) : child)));
  return element;
}
/** Escapes control characters, direction marks, line separators, tag characters and zero-width characters, so that they are visible. */
function plain(text) {
  return text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

// === formatting

const words = (name) => name.replaceAll("_", " ");
const short = (actor) => actor.replace(/^system:serviceaccount:/, "");
const plural = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;
const clock = (time) => (time ? time.slice(0, 19).replace("T", " ") + "Z" : "");
const title = (o) => `${o.kind} ${o.namespace ? o.namespace + "/" : ""}${o.name}${o.cluster ? ` (${o.cluster})` : ""}`;
function shown(value) {
  if (value.redacted) return "(redacted)";
  if (value.absent) return "∅";
  return text(value.value);
}
function written(change) {
  return change.new_redacted ? "(redacted)" : change.new_unknown ? "(unknown)" : text(change.new);
}

function text(json) {
  if (json === null) return "∅";
  const out = typeof json === "string" ? json : JSON.stringify(json);
  return out.length > 60 ? out.slice(0, 59) + "…" : out;
}

/** Returns the path of an object, both in the API and after `#` in the URL of this page. */
function path(o) {
  const resource = o.group ? `${o.resource}.${o.group}` : o.resource;
  const parts = [resource, o.namespace || "-", o.name].map(encodeURIComponent).join("/");
  return o.cluster ? `${parts}?cluster=${encodeURIComponent(o.cluster)}` : parts;
}

// === requests

async function ask(url) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(url, { headers, cache: "no-store" });
  login.hidden = answer.status !== 401;
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `${answer.status} ${answer.statusText}`);
  return body;
}

function question() {
  const query = new URLSearchParams();
  for (const name of ["namespace", "actor"]) if (filter[name].value) query.set(name, filter[name].value);
  if (filter.all.checked) query.set("all", "true");
  return query.size ? `api/v1/wars?${query}` : "api/v1/wars";
}

// === the list

function list(report) {
  const { wars } = report;
  return [
    problems(report.coverage),
    wars.length ? el("h2", {}, plural(wars.length, "edit war")) : isBlocked(report.coverage) ? null : el("h2", {}, "No edit war"),
    wars.length ? table(["object", "fought over", "parties", "since", "retakes", "state"], wars.map(row), [4]) : null,
    wars.length || isBlocked(report.coverage) ? null : el("p", { class: "lead" }, nothing(report.matched)),
    findings(report.flapping, report.hot_loops, report.contention),
  ];
}

// Shows the findings other than wars.
function findings(flapping, hotLoops, contention) {
  return [
    section("Flapping admission", ["object", "writer", "rejected by", "message", "accepted", "rejected"],
      flapping.map((f) => [link(f.object), short(f.actor), f.by, f.message, `${f.accepted}`, `${f.rejected}`]), [4, 5]),
    section("Hot loops", ["object", "actor", "writes", "no-ops", "per minute"],
      hotLoops.map((h) => [link(h.object), short(h.actor), `${h.writes}`, `${h.no_ops}`, h.per_minute?.toFixed(1) ?? ""]), [2, 3, 4]),
    section("Contention", ["object", "stale writes", "rejected applies", "actors (conflicts)"],
      contention.map((c) => [link(c.object), `${c.stale}`, `${c.apply_conflicts}`,
        c.parties.filter((p) => p.conflicts).map((p) => `${short(p.actor)} (${p.conflicts})`).join(", ")]), [1, 2]),
  ];
}

// Whether the input is missing or incomplete, so that an answer without wars does not mean that there are none.
const isBlocked = (coverage) =>
  (coverage.problems ?? []).some((p) => ["no_match", "no_events", "incomplete_input"].includes(p.kind));

// Shows the reasons why the answer may miss a war.
const problems = (coverage) => (coverage.problems ?? []).map((p) =>
  el("p", { class: "problem" }, el("strong", {}, `${PROBLEMS[p.kind] ?? "Incomplete"}: `), p.message));
const PROBLEMS = { no_match: "Nothing was checked", no_events: "Nothing was checked", stale_events: "Out of date" };

const nothing = (matched) => `${plural(matched.writes, "write")} to ${plural(matched.objects, "object")}. No actor retakes a field from another one.`;

function row(war) {
  const field = war.fields[0];
  const values = field ? [...new Set(field.values.map(shown))].slice(0, 2) : [];
  const more = war.fields.length > 1 ? ` and ${war.fields.length - 1} more` : "";
  return [
    link(war.object),
    field ? [el("code", {}, field.path), more, el("br"), values.map((v, i) => [i ? " ⇄ " : "", el("span", { class: "value" }, v)])] : "fields not in the log",
    el("ul", { class: "plain" }, war.parties.map((p) => el("li", {}, short(p.actor), el("span", { class: "dim" }, ` ${p.writes}`)))),
    clock(war.since),
    [`${war.retakes}`, el("br"), el("span", { class: "dim" }, war.retakes_per_minute == null ? "" : `${war.retakes_per_minute}/min`)],
    war.confidence === "possible" ? el("span", { class: "state" }, "undecided")
      : war.deleted ? [el("span", { class: "state" }, "ended"), el("br"), el("span", { class: "dim" }, "object deleted")]
      : state(war.state, war.confidence),
  ];
}

const state = (of, confidence) => [el("span", { class: `state ${of}` }, words(of)), el("br"), el("span", { class: "dim" }, confidence ?? "")];
const link = (object) => el("a", { href: `#${path(object)}` }, title(object));

function section(name, head, rows, numbers = []) {
  return rows.length ? [el("h3", {}, name), table(head, rows, numbers)] : null;
}

function table(head, rows, numbers = []) {
  const kind = (i) => (numbers.includes(i) ? { class: "number" } : {});
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((h, i) => el("th", { scope: "col", ...kind(i) }, h)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((c, i) => el("td", kind(i), c)))))));
}

// === one object

function one(found) {
  return [
    problems(found.coverage),
    el("h2", {}, title(found.object)),
    found.wars.length ? found.wars.map((war) => over(found, war)) : el("p", { class: "lead" }, "No war over this object."),
    findings(found.flapping ?? [], found.hot_loops ?? [], found.contention ? [found.contention] : []),
    found.cooperation?.map((c) => el("p", { class: "dim" }, `By design: ${c.actors.join(" and ")} write ${c.fields.join(", ")}: ${c.reason}.`)),
    section("Writers", ["actor", "class", "writes", "no-ops", "retakes", "field managers", "from", "first", "last"],
      found.actors.map((a) => [a.actor, words(a.role), `${a.writes}`, `${a.no_ops}`, `${a.retakes}`, a.field_managers.join(", "),
        a.source_ips.join(", "), clock(a.first), clock(a.last)]), [2, 3, 4]),
    found.timeline.length ? el("details", {}, el("summary", {}, plural(found.timeline.length, "write")),
      table(["time", "actor", "verb", "changed"], found.timeline.slice(-500).map((m) =>
        [clock(m.at), short(m.actor), m.verb, m.changes.map((c) => `${c.path} ${c.old_redacted ? "(redacted)" : text(c.old)} → ${written(c)}`).join("; ") || m.effect]))) : null,
  ];
}

// Shows one war: its state, cause, values over time, and remedies.
function over(found, war) {
  return [
    el("p", { class: "lead" }, verdict(war), ". ",
      `${plural(war.retakes, "retake")} since ${clock(war.since)}${rate(war)}. Cause: `, el("strong", {}, words(war.cause)), "."),
    war.evidence?.length ? el("ul", {}, war.evidence.map((e) => el("li", {}, e))) : null,
    war.fields.slice(0, 5).map((f) => lanes(found, f.path)),
    remedies(war),
    war.verify ? [el("p", {}, "To check that the war is over:"), command(`${war.verify} --server ${location.origin}`)] : null,
  ];
}

// A possible war is shown as undecided: at audit level Metadata, it may not be a war.
function verdict(war) {
  return war.confidence === "possible" ? el("span", { class: "state" }, "undecided")
    : war.deleted ? [el("span", { class: "state" }, "ended"), `, object deleted ${clock(war.deleted)}, ${war.confidence}`]
    : [el("span", { class: `state ${war.state}` }, words(war.state)), `, ${war.confidence}`];
}

function rate(war) {
  return war.retakes_per_minute == null ? "" : `, ${war.retakes_per_minute} per minute`;
}

// Shows the remedies of each kind under a heading, numbered throughout.
function remedies(war) {
  const cluster = war.object.cluster ? ` in the cluster ${war.object.cluster}` : "";
  const headings = {
    change: `${war.deleted || war.state === "calm" ? "To prevent it from starting again" : "To end it"}${cluster}, choose one`,
    show: "To fix it at its source (these commands change nothing)",
    delete: "As a last resort",
  };
  return Object.entries(headings).map(([kind, heading]) => {
    const first = war.remedies.findIndex((r) => r.kind === kind);
    if (first < 0) return null;
    const found = war.remedies.filter((r) => r.kind === kind);
    return [el("h3", {}, heading), el("ol", { class: "remedies", start: first + 1 }, found.map(remedy))];
  });
}

function remedy(r) {
  const notes = r.kind === "show" ? `Then: ${r.changes}.` : `Changes: ${r.changes}. Tradeoff: ${r.tradeoff}.`;
  return el("li", {}, r.title, command(r.command), el("div", { class: "dim" }, notes),
    r.undo ? [el("div", { class: "dim" }, "To undo it:"), command(r.undo)] : null);
}

function command(line) {
  const button = el("button", { type: "button", on: { click: copy } }, "Copy");
  async function copy() {
    await navigator.clipboard.writeText(line);
    button.textContent = "Copied";
  }
  return el("div", { class: "command" }, el("pre", {}, line), navigator.clipboard ? button : null);
}

/** Draws the values of a field over time, with one lane per writer. */
function lanes(found, of) {
  const marks = found.timeline.flatMap((m) => {
    const change = m.changes.find((c) => c.path === of);
    if (change) return [{ at: Date.parse(m.at), time: m.at, actor: m.actor, value: written(change) }];
    return of === `(${m.part})` || (of === "(object)" && m.effect !== "modify")
      ? [{ at: Date.parse(m.at), time: m.at, actor: m.actor, value: m.effect }] : [];
  });
  if (marks.length < 2) return null;
  const WIDTH = 1000, LEFT = 270, TOP = 8, LANE = 30;
  const actors = [...new Set(marks.map((m) => m.actor))];
  const values = [...new Set(marks.map((m) => m.value))];
  const from = marks[0].at, to = Math.max(marks.at(-1).at, from + 1);
  const x = (at) => LEFT + 14 + ((at - from) / (to - from)) * (WIDTH - LEFT - 28);
  const colour = (value) => COLOURS[values.indexOf(value) % COLOURS.length];
  const height = TOP + actors.length * LANE + 18;
  const middle = (i) => TOP + i * LANE + LANE / 2;
  const gaps = found.coverage.gaps.map((g) => [Date.parse(g.from), Date.parse(g.to)]).filter(([a, b]) => b > from && a < to);
  const cut = (s, n) => (s.length > n ? "…" + s.slice(1 - n) : s);
  const name = `${of}: ${actors.map(short).join(" against ")}`;
  const picture = svg("svg", { class: "lanes", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": name },
    gaps.map(([a, b]) => svg("rect", { class: "gap", x: x(Math.max(a, from)), y: TOP, width: x(Math.min(b, to)) - x(Math.max(a, from)), height: actors.length * LANE },
      svg("title", {}, "no audit events"))),
    actors.map((actor, i) => [
      svg("line", { x1: LEFT, x2: WIDTH, y1: middle(i), y2: middle(i) }),
      svg("text", { x: 0, y: middle(i) + 4 }, cut(short(actor), 40), svg("title", {}, actor)),
    ]),
    marks.map((m) => {
      const at = [x(m.at), middle(actors.indexOf(m.actor))];
      const label = m.value.length <= 3 ? m.value : "";
      return svg("g", {}, svg("rect", { x: at[0] - 8, y: at[1] - 9, width: 16, height: 18, rx: 3, fill: colour(m.value) }),
        svg("text", { class: "mark", x: at[0], y: at[1] + 4 }, label), svg("title", {}, `${clock(m.time)} ${m.actor}: ${m.value}`));
    }),
    svg("text", { class: "dim", x: LEFT, y: height - 3 }, clock(marks[0].time)),
    svg("text", { class: "dim", x: WIDTH, y: height - 3, "text-anchor": "end" }, clock(marks.at(-1).time)),
  );
  const keys = values.slice(0, COLOURS.length).map((v) => {
    const key = el("span", { class: "key" });
    key.style.background = colour(v);
    return el("span", {}, key, el("span", { class: "value" }, v), " ");
  });
  return [el("h3", {}, el("code", {}, of)), picture, el("p", { class: "dim" }, keys)];
}

// === coverage

function based(coverage) {
  const { metadata, request, request_response, watched = 0, joined = 0, reviewed = 0, fields_reviewed = 0 } = coverage.levels;
  // A write that both an audit event and a watch show is one write.
  const all = metadata + request + request_response - joined + watched + reviewed;
  const share = (n) => Math.floor((100 * n) / all);
  const [bare, only_watched] = [metadata - joined - fields_reviewed, watched - joined];
  const sources = coverage.sources.slice(0, 3).map((s) => s.source).join(", ") + (coverage.sources.length > 3 ? ` and ${coverage.sources.length - 3} more` : "");
  const lines = coverage.first ? [`Based on ${sources}, ${clock(coverage.first)} to ${clock(coverage.last)}.`] : ["There are no audit events. Check that kube-apiserver posts them to this server."];
  for (const gap of coverage.gaps.slice(0, 5)) lines.push(`No audit events from ${clock(gap.from)} to ${clock(gap.to)}.`);
  if (joined) lines.push(`${share(joined)} % of the writes are known from the audit log and a watch: accounts from the log, fields and values from the watch.`);
  if (fields_reviewed) lines.push(`${share(fields_reviewed)} % of the writes have no bodies in the audit log; an admission webhook showed their fields and values.`);
  if (only_watched > 0) lines.push(`${share(only_watched)} % of the writes are known only from a watch: by manager, not by account.`);
  if (bare > 0) lines.push(`${share(bare)} % of the writes have no bodies (Metadata), so their fields are unknown.`);
  if (request) lines.push(`${share(request)} % have no response bodies (Request), so only the requested changes are known.`);
  if (coverage.truncated) lines.push(`kube-apiserver truncated ${plural(coverage.truncated, "body", "bodies")}.`);
  for (const { source, caveats } of (coverage.feeds ?? []).slice(0, 8)) for (const text of caveats) lines.push(`${source}: ${text}`);
  return lines.map((line) => el("p", {}, line));
}

// === the page

let last = "";
let asOf = "";
async function refresh() {
  const status = document.getElementById("status");
  try {
    const at = location.hash.slice(1);
    const answer = await ask(at ? `api/v1/objects/${at}` : question());
    filter.hidden = at !== "";
    const now = JSON.stringify([at, answer]);
    if (now !== last) {
      const open = main.querySelector("details")?.open ?? false;
      main.replaceChildren(...(at ? one(answer) : list(answer)).flat(9).filter(Boolean));
      if (open && main.querySelector("details")) main.querySelector("details").open = true;
      document.getElementById("coverage").replaceChildren(...based(answer.coverage));
      document.title = at ? plain(`${title(answer.object)} · editwar`) : answer.wars.length ? `(${answer.wars.length}) editwar` : "editwar";
      last = now;
    }
    asOf = clock(answer.coverage.last) || "no event yet";
    status.textContent = `as of ${asOf}`;
    status.className = main.className = "";
  } catch (error) {
    // Keep the last answer on the page, marked as outdated.
    status.textContent = plain(`error: ${error.message}` + (last ? `; the data are as of ${asOf}` : ""));
    status.className = "bad";
    main.className = "outdated";
  }
}

filter.addEventListener("input", refresh);
filter.addEventListener("submit", (event) => event.preventDefault());
login.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", login.token.value);
  refresh();
});
addEventListener("hashchange", refresh);
setInterval(() => document.hidden || refresh(), REFRESH_MS);
refresh();
