// Turns values of the API into text. Nothing here touches the page.

/** Characters that cannot be seen: controls, direction marks, separators, fillers, joiners and variation selectors. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}-\u{180f}\u{3164}\u{ffa0}\u{fe00}-\u{fe0f}\u{e0100}-\u{e01ef}]/gu;

/** Makes text from outside safe to read: what cannot be seen is escaped. */
export const plain = (text) => `${text}`.replace(INVISIBLE, (c) => (c === "\n" ? "\\n" : `\\u{${c.codePointAt(0).toString(16)}}`));

export const words = (name) => (name ?? "").replaceAll("_", " ");
export const shortActor = (actor) => actor.replace(/^system:serviceaccount:/, "");
export const plural = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const clock = (time) => (time ? time.slice(0, 19).replace("T", " ") + "Z" : "");

/** Returns the time without the date if it is on the day of `now`. */
export function shortClock(time, now) {
  if (!time) return "";
  return now && time.slice(0, 10) === now.slice(0, 10) ? time.slice(11, 19) + "Z" : clock(time);
}

/** Returns a duration between two times, such as `3 min`. */
export function duration(from, to) {
  const seconds = Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const objectTitle = (o) => `${o.kind} ${o.namespace ? o.namespace + "/" : ""}${o.name}`;

/** Returns the path of an object in the API. */
export function objectPath(o) {
  const resource = o.group ? `${o.resource}.${o.group}` : o.resource;
  const parts = [resource, o.namespace || "-", o.name].map(encodeURIComponent).join("/");
  return o.cluster ? `${parts}?cluster=${encodeURIComponent(o.cluster)}` : parts;
}

export function json(value, max = 60) {
  if (value === null || value === undefined) return "∅";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > max ? text.slice(0, max - 1) + "…" : text;
}

export function valueText(value) {
  if (value.redacted) return "(redacted)";
  if (value.absent) return "∅";
  return json(value.value);
}

export const oldText = (change) => (change.old_redacted ? "(redacted)" : json(change.old));
/** Identifies a value, also if its text is cut. */
export const newKey = (change) => (change.new_redacted || change.new_unknown ? newText(change) : JSON.stringify(change.new));
export const newText = (change) => (change.new_redacted ? "(redacted)" : change.new_unknown ? "(unknown)" : json(change.new));

/** What the status of a war is called, and the class of its colour. */
export function statusOf(war) {
  if (war.confidence === "possible") return { word: "undecided", className: "undecided" };
  if (war.deleted) return { word: "ended", className: "calm", note: "object deleted" };
  if (war.state === "calm") return { word: "ended", className: "calm" };
  return { word: war.state, className: war.state };
}

export const FINDINGS = {
  war: "edit war", hot_loop: "hot loop", contention: "contention", flapping: "flapping admission", cooperation: "co-operation",
};

export const PROBLEMS = { no_match: "Nothing was checked", no_events: "Nothing was checked", stale_events: "Out of date" };

/** Sentences about what an answer is based on. */
export function basis(coverage) {
  const { metadata, request, request_response, watched = 0, joined = 0, reviewed = 0, fields_reviewed = 0 } = coverage.levels;
  // A write that both an audit event and a watch show is one write.
  const all = metadata + request + request_response - joined + watched + reviewed;
  const share = (n) => Math.floor((100 * n) / all);
  const [bare, only_watched] = [metadata - joined - fields_reviewed, watched - joined];
  const names = coverage.sources.slice(0, 3).map((s) => s.source).join(", ");
  const more = coverage.sources.length > 3 ? ` and ${coverage.sources.length - 3} more` : "";
  const lines = coverage.first
    ? [`Based on ${names}${more}, ${clock(coverage.first)} to ${clock(coverage.last)}.`]
    : ["There are no audit events. Check that kube-apiserver posts them to this server."];
  for (const gap of coverage.gaps.slice(0, 5)) lines.push(`No audit events from ${clock(gap.from)} to ${clock(gap.to)}.`);
  if (joined) lines.push(`${share(joined)} % of the writes are known from the audit log and a watch: accounts from the log, fields and values from the watch.`);
  if (fields_reviewed) lines.push(`${share(fields_reviewed)} % of the writes have no bodies in the audit log; an admission webhook showed their fields and values.`);
  if (only_watched > 0) lines.push(`${share(only_watched)} % of the writes are known only from a watch: by manager, not by account.`);
  if (bare > 0) lines.push(`${share(bare)} % of the writes have no bodies (Metadata), so their fields are unknown.`);
  if (request) lines.push(`${share(request)} % have no response bodies (Request), so only the requested changes are known.`);
  if (coverage.truncated) lines.push(`kube-apiserver truncated ${plural(coverage.truncated, "body", "bodies")}.`);
  for (const { source, caveats } of (coverage.feeds ?? []).slice(0, 8)) for (const text of caveats) lines.push(`${source}: ${text}`);
  return lines;
}

const hasProblem = (coverage, kinds) => (coverage.problems ?? []).some((p) => kinds.includes(p.kind));
/** Whether the input is missing or incomplete, so that an answer without wars does not mean that there are none. */
export const isBlocked = (coverage) => hasProblem(coverage, ["no_match", "no_events", "incomplete_input"]);
/** Whether events are missing since a while. */
export const isStale = (coverage) => hasProblem(coverage, ["stale_events", "silent_source"]);

/** Returns how a fight is described in one sentence. */
export function fight(war) {
  const [a, b, ...more] = war.parties.map((p) => shortActor(p.actor));
  const field = war.fields[0];
  const over = field ? (field.path.startsWith("(") ? "the object" : field.path) : "its fields";
  const count = (war.field_count ?? war.fields.length) - 1;
  const others = count > 0 ? ` and ${plural(count, "other field")}` : "";
  if (!b) return `${a} keeps overwriting itself: ${over}${others}`;
  return `${a} and ${b}${more.length ? ` and ${plural(more.length, "other")}` : ""} keep overwriting each other: ${over}${others}`;
}
