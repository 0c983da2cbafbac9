// Actors: which wars they take part in, what they write, and which pairs of them fight often.

import { useMemo } from "preact/hooks";
import { useAnswer } from "./api.js";
import { clock, isBlocked, isStale, newText, oldText, plural, shortActor, words } from "./format.js";
import { Actor, ObjectLink, Problems, Row, Table, Text, usePages } from "./parts.jsx";
import { link } from "./route.js";
import { FindingRow } from "./wars.jsx";

const isWar = (row) => row.finding === "war" && row.war.thrashing_events > 0;
const isOngoing = (row) => row.war.progress === "ongoing";

/** Sums up the wars of each pair of actors. A pair with many objects has one cause. */
export function pairsOf(rows) {
  const found = new Map();
  for (const row of rows.filter(isWar)) {
    const names = row.actors.map((a) => a.actor).sort();
    const pair = names.length === 1 ? [names[0], names[0]] : names;
    const key = [row.object.cluster, ...pair].join("\0");
    if (!found.has(key)) found.set(key, { key, cluster: row.object.cluster, actors: [...new Set(pair)], rows: [] });
    found.get(key).rows.push(row);
  }
  return [...found.values()].map((pair) => ({
    ...pair,
    ongoing: pair.rows.filter(isOngoing).length,
    namespaces: new Set(pair.rows.map((r) => r.object.namespace)).size,
    retakes: pair.rows.reduce((sum, r) => sum + r.war.retakes, 0),
    fields: [...new Set(pair.rows.flatMap((r) => r.war.fields.map((f) => f.path)))],
  })).sort((a, b) => b.ongoing - a.ongoing || b.rows.length - a.rows.length || b.retakes - a.retakes);
}

function actorsOf(rows) {
  const found = new Map();
  for (const row of rows.filter(isWar)) {
    for (const { actor, ...more } of row.actors) {
      if (!found.has(actor)) found.set(actor, { actor, class: more.class, role: more.role, wars: 0, ongoing: 0, retakes: 0, writes: 0 });
      const sum = found.get(actor);
      sum.wars += 1;
      sum.ongoing += isOngoing(row) ? 1 : 0;
      sum.retakes += more.retakes;
      sum.writes += more.writes;
    }
  }
  return [...found.values()].sort((a, b) => b.ongoing - a.ongoing || b.wars - a.wars || b.retakes - a.retakes);
}

export function Actors({ overview }) {
  const rows = useMemo(() => [...overview.rows.values()], [overview.version]);
  const pairs = useMemo(() => pairsOf(rows), [rows]);
  const actors = useMemo(() => actorsOf(rows), [rows]);
  const [shownPairs, morePairs] = usePages(pairs.length, 50);
  const [shown, more] = usePages(actors.length, 100);
  return (
    <>
      <h1>Actors</h1>
      <Problems coverage={overview.head?.coverage} />
      {!pairs.length && <Peace overview={overview} />}
      {pairs.length > 0 && (
        <>
          <h2>Who fights whom</h2>
          <ul class="pairs">{pairs.slice(0, shownPairs).map((pair) => <Pair key={pair.key} pair={pair} />)}</ul>
          {morePairs}
          <h2>All parties</h2>
          <Table caption="All parties" columns={["actor", "class", "role", { name: "ongoing", number: true }, { name: "wars", number: true }, { name: "retakes", number: true }, { name: "writes", number: true }]}>
            <tbody role="rowgroup">
              {actors.slice(0, shown).map((a) => (
                <Row key={a.actor} cells={[<Actor name={a.actor} />, words(a.class), words(a.role), a.ongoing, a.wars, a.retakes, a.writes]} />
              ))}
            </tbody>
          </Table>
          {more}
        </>
      )}
    </>
  );
}

/** Says that no actor fights, if that is known. */
function Peace({ overview: { head } }) {
  if (!head) return <p class="lead">Loading…</p>;
  if (!head.coverage.first) return <p class="lead">Nothing received: no event has arrived yet.</p>;
  if (isBlocked(head.coverage) || isStale(head.coverage)) return <p class="lead">No actor of a war is known, but events are missing. This is not an all-clear.</p>;
  return <p class="lead">No actor takes part in an edit war, as far as is known.</p>;
}

/** "These two tools fight over 40 objects in 6 namespaces: one cause." */
function Pair({ pair }) {
  const { actors, rows, namespaces, ongoing, fields, cluster } = pair;
  const names = actors.map((name, i) => [i > 0 && (i === actors.length - 1 ? " and " : ", "), <Actor name={name} />]);
  const where = namespaces > 1 ? ` in ${plural(namespaces, "namespace")}` : "";
  const over = fields.slice(0, 3).map((f, i) => [i > 0 && ", ", <code><Text>{f}</Text></code>]);
  return (
    <li>
      {names} {actors.length > 1 ? "fight" : "fights itself"} over <strong>{plural(rows.length, "object")}</strong>{where}
      {cluster && <> (<Text>{cluster}</Text>)</>}{rows.length > 1 ? ": probably one cause" : ""}.{" "}
      <span class="dim">{ongoing ? `${ongoing} ongoing` : "none ongoing"}; {over}{fields.length > 3 && " and more"}.</span>{" "}
      <a href={link("wars", "", { q: actors.map(shortActor).join(" "), cluster })}>Show</a>
    </li>
  );
}

export function ActorView({ overview, route }) {
  const [name] = route.parts;
  // A party is called after its account and its tool if an account fights itself.
  const account = name.split(" via ")[0];
  const rows = useMemo(() => [...overview.rows.values()].filter((r) => r.actors.some((a) => a.actor === name)), [overview.version, name]);
  const { found, error } = useAnswer(`api/v1/writes?${new URLSearchParams({ actor: account, exact: true, limit: 200 })}`, "", 10_000);
  const pairs = useMemo(() => pairsOf(rows), [rows]);
  const known = rows.flatMap((r) => r.actors).find((a) => a.actor === name && a.class);
  const objects = found?.objects ?? [];
  const writes = (found?.writes ?? []).slice().reverse();
  const wars = rows.filter((r) => r.finding === "war");
  const first = objects[0]?.writer;
  return (
    <>
      <h1 class="break"><Text>{name}</Text></h1>
      {known && <p class="lead">{words(known.class)}{known.role && known.role !== known.class && `, ${words(known.role)}`}. {plural(wars.length, "war")}, {wars.filter(isOngoing).length} ongoing.</p>}
      {first && <p class="dim">User agents: <Text>{first.user_agents.join(", ") || "not known"}</Text>. From: <Text>{first.source_ips.join(", ") || "not known"}</Text>. Field managers: <Text>{first.field_managers.join(", ") || "not known"}</Text>.</p>}
      {pairs.length > 0 && <><h2>Opponents</h2><ul class="pairs">{pairs.map((pair) => <Pair key={pair.key} pair={pair} />)}</ul></>}
      <h2>Wars and other findings</h2>
      {rows.length === 0 ? <p>None{overview.head ? "" : " yet: loading"}.</p> : (
        <Table caption="Wars and other findings" columns={["status", "object", "fought over", "parties", "since", "last", { name: "retakes", number: true }]}>
          <tbody role="rowgroup">{rows.slice(0, 200).map((row) => <FindingRow key={row.id} row={row} asOf={overview.head?.as_of} />)}</tbody>
        </Table>
      )}
      <h2>Writes</h2>
      {error && <p class="problem"><strong>Error: </strong><Text>{error}</Text></p>}
      {found && (
        <>
          <Table caption="Objects that it wrote" columns={["object", { name: "writes", number: true }, { name: "no-ops", number: true }, "first", "last"]}>
            <tbody role="rowgroup">
              {objects.map(({ object, writer }) => (
                <Row cells={[<ObjectLink object={object} withCluster />, writer.writes, writer.no_ops, clock(writer.first), clock(writer.last)]} />
              ))}
            </tbody>
          </Table>
          {found.omitted > 0 && <p class="dim">and {plural(found.omitted, "object")} that it wrote earlier</p>}
          {writes.length > 0 && (
            <details>
              <summary>{plural(writes.length, "write")} to contested objects</summary>
              <Table caption="Its writes to contested objects" columns={["time", "object", "verb", "changed"]}>
                <tbody role="rowgroup">
                  {writes.slice(0, 300).map((w) => (
                    <Row cells={[clock(w.at), <ObjectLink object={w.object} withCluster />, w.verb,
                      w.changes.length ? <Text>{w.changes.slice(0, 5).map((c) => `${c.path} ${oldText(c)} → ${newText(c)}`).join("; ")}</Text> : w.effect]} />
                  ))}
                </tbody>
              </Table>
            </details>
          )}
        </>
      )}
    </>
  );
}
