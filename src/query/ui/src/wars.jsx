// The overview: tiles, filters, and the table of all findings.

import { useEffect, useMemo, useState } from "preact/hooks";
import { FINDINGS, clock, isBlocked, isStale, plural, shortActor, shortClock, valueText, words } from "./format.js";
import { Actor, ObjectLink, Problems, Row, Status, Table, Text, Value, usePages } from "./parts.jsx";
import { change, link } from "./route.js";

const isWar = (row) => row.finding === "war";
const isDecided = (row) => isWar(row) && row.war.confidence !== "possible";
// A war thrashes at least. What never thrashed is only shown on request.
const isLoud = (row) => isWar(row) && row.war.thrashing_events > 0;

/** Which rows a tile selects. */
export const TILES = [
  { key: "ongoing", name: "ongoing", is: (row) => isLoud(row) && isDecided(row) && row.war.progress === "ongoing" },
  { key: "sustained", name: "sustained", is: (row) => isDecided(row) && row.war.state === "sustained" && !row.war.deleted },
  { key: "paused", name: "paused", is: (row) => isWar(row) && !!row.war.is_paused && !row.war.deleted },
  { key: "subsiding", name: "subsiding", is: (row) => isLoud(row) && isDecided(row) && row.war.progress === "subsiding" },
  { key: "undecided", name: "undecided", is: (row) => isLoud(row) && !isDecided(row) && row.war.progress !== "ended" },
  { key: "ended", name: "ended", is: (row) => isLoud(row) && row.war.progress === "ended" },
  { key: "other", name: "other findings", is: (row) => !isWar(row) },
  { key: "contested", name: "contested", is: (row) => isWar(row) && !isLoud(row) },
];

const STATES = ["sustained", "thrashing", "subsiding", "contested", "calm"];
const CONFIDENCES = ["possible", "probable", "confirmed"];
const RANGES = { "15m": 15 * 60, "1h": 3600, "6h": 6 * 3600, "24h": 24 * 3600, "7d": 7 * 24 * 3600 };

/** The order in which rows need attention, as one number: progress, then confidence, thrashing events and retakes. */
function urgency(row) {
  if (!isWar(row)) return 0;
  const { progress, confidence, thrashing_events, retakes } = row.war;
  const rank = isLoud(row) ? 2 * { ongoing: 3, subsiding: 2, ended: 1 }[progress] - (isDecided(row) ? 0 : 1) : 0.5;
  return rank * 1e12 + CONFIDENCES.indexOf(confidence) * 1e11 + Math.min(thrashing_events, 99_999) * 1e6 + Math.min(retakes, 999_999);
}

/** What rows are sorted by: a number or a text. */
const SORTS = {
  status: urgency,
  object: (row) => row.object.name,
  since: (row) => Date.parse(row.since),
  last: (row) => Date.parse(row.until),
  retakes: (row) => row.war?.retakes ?? -1,
};
const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** All text of a row in which a search looks. */
function haystack(row) {
  const { object: o, war } = row;
  const fields = (war?.fields ?? []).flatMap((f) => [f.path, ...f.values.map(valueText)]);
  return [o.cluster, o.namespace, o.kind, o.resource, o.name, row.summary, war?.cause, ...Object.values(war?.labels ?? {}),
    ...row.actors.map((a) => a.actor), ...fields].join(" ").toLowerCase();
}

/** Returns the rows that the parameters of the URL select, in their order. */
export function select(rows, parameters, asOf) {
  const { show, q = "", cause, state, confidence, range, cluster, namespace } = parameters;
  const tile = TILES.find((t) => t.key === show);
  const terms = q.toLowerCase().split(/\s+/).filter(Boolean);
  const from = RANGES[range] && asOf ? Date.parse(asOf) - RANGES[range] * 1000 : null;
  const found = rows.filter((row) => {
    const { war, object } = row;
    if (tile ? !tile.is(row) : isWar(row) && !isLoud(row) && state !== "contested") return false;
    if (cluster && object.cluster !== cluster) return false;
    if (namespace && object.namespace !== (namespace === "-" ? "" : namespace)) return false;
    if (parameters.class && !row.actors.some((a) => a.class === parameters.class || a.role === parameters.class)) return false;
    if (cause && war?.cause !== cause) return false;
    if (state && (war?.state !== state || (war.deleted && state !== "calm"))) return false;
    if (confidence && !(war && CONFIDENCES.indexOf(war.confidence) >= CONFIDENCES.indexOf(confidence))) return false;
    if (from !== null && Date.parse(row.until) < from) return false;
    if (!terms.length) return true;
    const text = haystack(row);
    return terms.every((term) => text.includes(term));
  });
  const { sort = "status" } = parameters;
  const down = parameters.order ? parameters.order === "down" : sort !== "object";
  const keyOf = SORTS[sort] ?? SORTS.status;
  const keyed = found.map((row) => ({ row, key: keyOf(row) }));
  keyed.sort((a, b) => (down ? order(b.key, a.key) : order(a.key, b.key)) || order(a.row.id, b.row.id));
  return keyed.map(({ row }) => row);
}

export function Wars({ overview, route }) {
  const { parameters } = route;
  const { head } = overview;
  const all = useMemo(() => [...overview.rows.values()], [overview.version]);
  const counts = useMemo(() => TILES.map((tile) => all.filter(tile.is).length), [overview.version]);
  const found = useMemo(() => select(all, parameters, head?.as_of), [overview.version, route, head?.as_of]);
  const late = head?.late_sources ?? [];
  const isFiltered = Object.keys(parameters).some((key) => !["sort", "order"].includes(key));
  return (
    <>
      <h1 class="hidden">Edit wars</h1>
      <ul class="tiles" aria-label="Filters">
        {TILES.map((tile, i) => (
          <li>
            <button type="button" class={`tile ${tile.key}`} aria-pressed={parameters.show === tile.key}
              onClick={() => change(route, { show: parameters.show === tile.key ? "" : tile.key })}>
              <span class="count">{head ? counts[i].toLocaleString("en") : "–"}</span> {tile.name}
            </button>
          </li>
        ))}
        <li>
          <a class={`tile ${late.length ? "late" : ""}`} href={link("sources")}>
            <span class="count">{head ? late.length : "–"}</span> late sources
          </a>
        </li>
      </ul>
      <Filters route={route} all={all} version={overview.version} />
      <Problems coverage={head?.coverage} />
      <Found route={route} found={found} all={all} head={head} isFiltered={isFiltered} />
    </>
  );
}

function Filters({ route, all, version }) {
  const { parameters } = route;
  const values = useMemo(() => {
    const distinct = (of) => [...new Set(all.flatMap(of))].filter(Boolean).sort();
    return {
      class: distinct((row) => row.actors.flatMap((a) => [a.class, a.role])),
      cause: distinct((row) => row.war?.cause),
    };
  }, [version]);
  const select = (name, label, options, any = "any") => (
    <label>{label}{" "}
      <select name={name} value={parameters[name] ?? ""} onChange={(event) => change(route, { [name]: event.currentTarget.value })}>
        <option value="">{any}</option>
        {[...new Set([...options, parameters[name]])].filter(Boolean).map((option) => <option value={option}>{words(option)}</option>)}
      </select>
    </label>
  );
  const isSet = Object.keys(parameters).length > 0;
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <label class="search">search{" "}
        <input type="search" name="q" value={parameters.q ?? ""} placeholder="object, actor, field, value" autocomplete="off" spellcheck={false}
          onInput={(event) => change(route, { q: event.currentTarget.value }, { replace: true })} />
      </label>
      {select("class", "class", values.class)}
      {select("cause", "cause", values.cause)}
      {select("state", "state", STATES)}
      {select("confidence", "at least", CONFIDENCES)}
      {select("range", "in the last", Object.keys(RANGES), "any time")}
      {select("sort", "sort by", COLUMNS.map((c) => c.sort).filter((sort) => sort && sort !== "status"), "status")}
      {["cluster", "namespace"].filter((name) => parameters[name]).map((name) => (
        <button type="button" class="chip" onClick={() => change(route, { [name]: "" })}>{name} <Text>{parameters[name] === "-" ? "cluster-scoped" : parameters[name]}</Text> ×<span class="hidden"> remove this filter</span></button>
      ))}
      {isSet && <a href="#/wars">Clear</a>}
    </form>
  );
}

const COLUMNS = [
  { name: "status", sort: "status" }, { name: "object", sort: "object" }, { name: "fought over" }, { name: "parties" },
  { name: "since", sort: "since" }, { name: "last", sort: "last" }, { name: "retakes", sort: "retakes", number: true },
];

/** How many rows fit into a window. No more are needed in the first frame after the page is opened. */
const FIRST_ROWS = 15;
let isFirstFrame = true;

function Found({ route, found, all, head, isFiltered }) {
  const [paged, more] = usePages(found.length, 50, JSON.stringify(route.parameters));
  const shown = isFirstFrame ? Math.min(paged, FIRST_ROWS) : paged;
  const [, redraw] = useState(false);
  useEffect(() => {
    isFirstFrame &&= !head;
    redraw(!!head);
  }, [!head]);
  if (!head) return <p class="lead">Loading…</p>;
  if (!found.length) return <Nothing head={head} all={all} isFiltered={isFiltered} />;
  const { sort = "status", order } = route.parameters;
  const sorted = { key: sort, down: order ? order === "down" : sort !== "object" };
  const onSort = (key) => {
    const down = key === sorted.key ? !sorted.down : key !== "object";
    change(route, { sort: key, order: down ? "down" : "up" });
  };
  const wars = found.filter(isWar).length;
  const heading = [wars && plural(wars, "edit war"), found.length > wars && plural(found.length - wars, "other finding")].filter(Boolean).join(", ");
  return (
    <>
      <h2 aria-live="polite">{heading}</h2>
      {head.omitted > 0 && <p class="problem"><strong>Incomplete: </strong>{plural(head.omitted, "less urgent object")} {head.omitted === 1 ? "is" : "are"} not listed.</p>}
      <Table caption={heading} columns={COLUMNS} sorted={sorted} onSort={onSort}>
        {groups(found.slice(0, shown)).map(({ cluster, namespace, rows }) => (
          <tbody role="rowgroup" key={`${cluster}/${namespace}`}>
            <tr role="row" class="group">
              <th role="rowheader" colSpan={COLUMNS.length} scope="rowgroup">
                {cluster && <a href={link("wars", "", { ...route.parameters, cluster })}><Text>{cluster}</Text></a>}
                {cluster && " / "}
                <a href={link("wars", "", { ...route.parameters, cluster, namespace: namespace || "-" })}><Text>{namespace || "cluster-scoped"}</Text></a>
              </th>
            </tr>
            {rows.map((row) => <FindingRow key={row.id} row={row} asOf={head.as_of} />)}
          </tbody>
        ))}
      </Table>
      {more}
    </>
  );
}

/** Groups sorted rows by cluster and namespace. Groups are in the order of their first rows. */
export function groups(rows) {
  const found = new Map();
  for (const row of rows) {
    const { cluster, namespace } = row.object;
    const key = `${cluster}\0${namespace}`;
    if (!found.has(key)) found.set(key, { cluster, namespace, rows: [] });
    found.get(key).rows.push(row);
  }
  return [...found.values()];
}

export function FindingRow({ row, asOf }) {
  const { war } = row;
  const time = (at) => <time dateTime={at} title={clock(at)}>{shortClock(at, asOf)}</time>;
  const what = war
    ? [<><Status war={war} /><div class="dim">{war.confidence}</div></>, <ObjectLink object={row.object} />, <Fields war={war} />]
    : [<span class="state other">{FINDINGS[row.finding]}</span>, <ObjectLink object={row.object} />, <Text>{row.summary}</Text>];
  const rate = war?.retakes_per_minute;
  const retakes = war && <>{war.retakes.toLocaleString("en")}{rate != null && <div class="dim">{rate}/min</div>}</>;
  return <Row cells={[...what, <Actors actors={row.actors} />, time(row.since), time(row.until), retakes]} />;
}

const Actors = ({ actors }) => (
  <ul class="plain">
    {actors.slice(0, 4).map((a) => <li><Actor name={a.actor} />{a.writes > 0 && <span class="dim"> {a.writes}</span>}</li>)}
    {actors.length > 4 && <li class="dim">and {actors.length - 4} more: <Text>{actors.slice(4, 8).map((a) => shortActor(a.actor)).join(", ")}</Text></li>}
  </ul>
);

function Fields({ war }) {
  const field = war.fields[0];
  if (!field) return "fields are not in the log";
  const values = [...new Set(field.values.map(valueText))].slice(0, 3);
  return (
    <>
      <code><Text>{field.path}</Text></code>
      {war.field_count > 1 && <span class="dim"> and {war.field_count - 1} more</span>}
      {values.length > 0 && <div>{values.map((v, i) => [i > 0 && " ⇄ ", <Value>{v}</Value>])}</div>}
    </>
  );
}

/** Says which kind of "nothing" it is: nothing received, nothing looked at, or peace. */
function Nothing({ head, all, isFiltered }) {
  const { matched, coverage } = head;
  if (!coverage.first) {
    return (
      <>
        <h2>Nothing received</h2>
        <p class="lead">No event has arrived yet, so nothing is known about edit wars. <code>editwar doctor</code> finds out why.</p>
      </>
    );
  }
  if (isFiltered && all.length) {
    return <><h2>No match</h2><p class="lead">{plural(all.length, "finding")}, but none with these filters. <a href="#/wars">Clear all filters</a></p></>;
  }
  if (isBlocked(coverage) || !matched.writes) {
    return (
      <>
        <h2>Nothing was checked</h2>
        <p class="lead">Events arrive ({plural(coverage.sources.length, "source")}), but {matched.writes ? "some are missing" : "none of them is a write"}. This is not an all-clear.</p>
      </>
    );
  }
  const contested = all.filter(TILES.find((t) => t.key === "contested").is).length;
  const hidden = contested > 0 && <> {plural(contested, "object")} {contested === 1 ? "is" : "are"} <a href={link("wars", "", { show: "contested" })}>contested</a>, but not often enough for a war.</>;
  if (isStale(coverage)) {
    return <><h2>Not up to date</h2><p class="lead">No edit war is known up to {clock(coverage.last)}, but events are missing since then. This is not an all-clear.{hidden}</p></>;
  }
  if (contested) {
    return <><h2>No edit war</h2><p class="lead">{plural(matched.writes, "write")} to {plural(matched.objects, "object")}.{hidden}</p></>;
  }
  return <><h2>No edit war</h2><p class="lead">{plural(matched.writes, "write")} to {plural(matched.objects, "object")}. No actor retakes a field from another one.</p></>;
}
