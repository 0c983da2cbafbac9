// One object: its wars, what to do about them, and everything beside them.

import { useState } from "preact/hooks";
import { openJson, useAnswer } from "./api.js";
import { basis, clock, duration, fight, newText, objectPath, objectTitle, oldText, plain, plural, shortActor, statusOf, valueText, words } from "./format.js";
import { Lanes } from "./lanes.jsx";
import { Actor, Command, Copy, ObjectLink, Problems, Row, Status, Table, Text, usePages } from "./parts.jsx";
import { link } from "./route.js";

/** How far back transitions are read from the journal. */
const PAST = "7d";

export function ObjectView({ overview, route }) {
  const path = route.rest + (route.parameters.cluster ? `?cluster=${encodeURIComponent(route.parameters.cluster)}` : "");
  const url = `api/v1/objects/${path}`;
  // A row of this object that changes means that the object has new writes. Other writes to it are shown within five seconds.
  const rows = [...overview.rows.values()].filter((row) => objectPath(row.object) === path);
  const { found, error } = useAnswer(url, JSON.stringify(rows.map((row) => row.until)), 5000);
  if (!found) return error ? <p class="problem"><strong>Error: </strong><Text>{error}</Text></p> : <p class="lead">Loading…</p>;
  const isPaused = rows.some((row) => row.war?.is_paused);
  return (
    <>
      <p class="breadcrumb">
        {found.object.cluster && <><a href={link("wars", "", { cluster: found.object.cluster })}><Text>{found.object.cluster}</Text></a> / </>}
        {found.object.namespace && <a href={link("wars", "", { cluster: found.object.cluster, namespace: found.object.namespace })}><Text>{found.object.namespace}</Text></a>}
      </p>
      <h1 class="break"><Text>{objectTitle(found.object)}</Text></h1>
      {error && <p class="problem"><strong>Out of date: </strong><Text>{error}</Text></p>}
      <Problems coverage={found.coverage} />
      {found.wars.length === 0 && <p class="lead">No war over this object.</p>}
      {found.wars.map((war, i) => (
        <War key={i} found={found} war={{ ...war, is_paused: isPaused }} number={found.wars.length > 1 ? i + 1 : 0} />
      ))}
      <Beside found={found} />
      <Past object={found.object} state={JSON.stringify([found.state, rows.map((row) => row.war?.state)])} />
      <Writers actors={found.actors} />
      <Timeline timeline={found.timeline} />
      <section>
        <h2>Where this comes from</h2>
        {provenance(found).map((line) => <p class="dim"><Text>{line}</Text></p>)}
      </section>
      <p class="take">
        <button type="button" onClick={() => openJson(url)}>JSON</button> <Copy label="Copy as Markdown" text={() => markdown(found)} /> <Copy label="Copy link" text={() => location.href} />
      </p>
    </>
  );
}

/** What is wrong, whether it goes on, since when, who, and what to do. */
function War({ found, war, number }) {
  const asOf = found.coverage.last;
  const { word } = statusOf(war);
  const isOver = word === "ended";
  const [lanes, setLanes] = useState(3);
  return (
    <section class="war" aria-label={number ? `War ${number}` : "War"}>
      <p class="lead">
        <Status war={war} inline />, <span class="dim">{war.confidence}</span>. <strong><Text>{fight(war)}</Text></strong>.{" "}
        {isOver ? `From ${clock(war.since)} to ${clock(war.deleted ?? war.until)}` : `Since ${clock(war.since)} (${duration(war.since, asOf)}), last retake ${duration(war.until, asOf)} ago`}:{" "}
        {plural(war.retakes, "retake")}{war.retakes_per_minute == null ? "" : `, ${war.retakes_per_minute} per minute`}.{" "}
        Cause: <strong>{words(war.cause)}</strong>.
      </p>
      {war.evidence?.length > 0 && <ul>{war.evidence.map((e) => <li><Text>{e}</Text></li>)}</ul>}
      <Remedies war={war} />
      {war.fields.slice(0, lanes).map((f) => <Lanes key={f.path} timeline={found.timeline} path={f.path} gaps={found.coverage.gaps} parties={war.parties} since={war.since} />)}
      {war.fields.length > lanes && <p><button type="button" onClick={() => setLanes(lanes + 10)}>Show {Math.min(10, war.fields.length - lanes)} more fields</button> <span class="dim">of {war.fields.length}</span></p>}
      {war.dependents?.length > 0 && (
        <>
          <h3>Objects that only follow this war</h3>
          <ul>{war.dependents.map((d) => <li><ObjectLink object={d.object} />, written {plural(d.writes, "time")} by <Actor name={d.actor} /></li>)}</ul>
        </>
      )}
      {war.other_writers.length > 0 && (
        <>
          <h3>Other writers, who take no part</h3>
          <ul>{war.other_writers.slice(0, 10).map((w) => <li><Actor name={w.actor} /> <span class="dim">{words(w.class)}, {plural(w.writes, "write")}</span></li>)}</ul>
        </>
      )}
    </section>
  );
}

/** Shows the remedies of each kind under a heading, numbered throughout. */
function Remedies({ war }) {
  const where = war.object.cluster ? ` in the cluster ${war.object.cluster}` : "";
  const isOver = statusOf(war).word === "ended";
  const headings = {
    change: `${isOver ? "To prevent it from starting again" : "To end it"}${where}, choose one`,
    show: "To fix it at its source (these commands change nothing)",
    delete: "As a last resort",
  };
  return (
    <>
      {Object.entries(headings).map(([kind, heading]) => {
        const first = war.remedies.findIndex((r) => r.kind === kind);
        if (first < 0) return null;
        const remedies = war.remedies.filter((r) => r.kind === kind);
        // The best remedy is in view, and the others do not hide what comes below.
        const shown = kind === "change" ? 1 : 0;
        return (
          <>
            {shown > 0 && <h3><Text>{heading}</Text></h3>}
            {shown > 0 && <ol class="remedies" start={first + 1}><Remedy remedy={remedies[0]} /></ol>}
            {remedies.length > shown && (
              <details class="remedies">
                <summary><Text>{shown ? `${plural(remedies.length - shown, "other way", "other ways")}` : heading}</Text>{!shown && <span class="dim"> ({remedies.length})</span>}</summary>
                <ol class="remedies" start={first + 1 + shown}>{remedies.slice(shown).map((r) => <Remedy remedy={r} />)}</ol>
              </details>
            )}
          </>
        );
      })}
      {war.verify && <><p>To check that the war is over:</p><Command line={`${war.verify} --server ${location.origin}`} /></>}
    </>
  );
}

function Remedy({ remedy: r }) {
  const notes = r.kind === "show" ? `Then: ${r.changes}.` : `Changes: ${r.changes}. Tradeoff: ${r.tradeoff}.`;
  return (
    <li>
      <Text>{r.title}</Text>
      <Command line={r.command} />
      <div class="dim"><Text>{notes}</Text></div>
      {r.undo && <><div class="dim">To undo it:</div><Command line={r.undo} /></>}
    </li>
  );
}

/** Findings about the object that are not wars. */
function Beside({ found }) {
  const { flapping = [], hot_loops = [], contention, cooperation = [] } = found;
  if (!flapping.length && !hot_loops.length && !contention && !cooperation.length) return null;
  return (
    <section>
      <h2>Beside it</h2>
      {flapping.length > 0 && (
        <>
          <h3>Flapping admission</h3>
          <Table caption="Flapping admission" columns={["writer", "rejected by", "message", { name: "accepted", number: true }, { name: "rejected", number: true }]}>
            <tbody role="rowgroup">{flapping.map((f) => <Row cells={[<Actor name={f.actor} />, <Text>{f.by}</Text>, <Text>{f.message}</Text>, f.accepted, f.rejected]} />)}</tbody>
          </Table>
        </>
      )}
      {hot_loops.length > 0 && (
        <>
          <h3>Hot loops</h3>
          <Table caption="Hot loops" columns={["actor", { name: "writes", number: true }, { name: "no-ops", number: true }, { name: "per minute", number: true }]}>
            <tbody role="rowgroup">{hot_loops.map((h) => <Row cells={[<Actor name={h.actor} />, h.writes, h.no_ops, h.per_minute?.toFixed(1) ?? ""]} />)}</tbody>
          </Table>
        </>
      )}
      {contention && (
        <>
          <h3>Contention</h3>
          <p>{plural(contention.stale, "stale write")}, {plural(contention.apply_conflicts, "rejected apply", "rejected applies")}: {contention.parties.filter((p) => p.conflicts).map((p, i) => <>{i > 0 && ", "}<Actor name={p.actor} /> ({p.conflicts})</>)}.</p>
        </>
      )}
      {cooperation.map((c) => <p class="dim">By design: <Text>{`${c.actors.join(" and ")} write ${c.fields.join(", ")}: ${c.reason}`}</Text>.</p>)}
    </section>
  );
}

/** The transitions of the verdict, which are only in the journal. They are read again when the state has changed. */
function Past({ object, state }) {
  const kind = object.group ? `${object.resource}.${object.group}` : object.resource;
  const query = { since: PAST, kind, name: object.name };
  if (object.namespace) query.namespace = object.namespace;
  if (object.cluster) query.cluster = object.cluster;
  const { found, error } = useAnswer(`api/v1/transitions?${new URLSearchParams(query)}`, state, 600_000);
  if (!found && !error) return null;
  return (
    <section>
      <h2>Transitions</h2>
      {!found ? <p class="dim"><Text>{error}</Text></p> : found.transitions.length === 0 ? <p>None since {clock(found.complete_since)}.</p> : (
        <ol class="transitions">
          {found.transitions.slice(-30).map((t) => <li><time dateTime={t.at}>{clock(t.at)}</time> <span class={`state ${t.from}`}>{t.from}</span> → <span class={`state ${t.to}`}>{t.to}</span></li>)}
        </ol>
      )}
    </section>
  );
}

const Writers = ({ actors }) => actors.length > 0 && (
  <section>
    <h2>Writers</h2>
    <Table caption="Writers" columns={["actor", "class", { name: "writes", number: true }, { name: "no-ops", number: true }, { name: "retakes", number: true }, "field managers", "from", "first", "last"]}>
      <tbody role="rowgroup">
        {actors.map((a) => (
          <Row key={a.actor} cells={[<Actor name={a.actor} />, words(a.role), a.writes, a.no_ops, a.retakes, <Text>{a.field_managers.join(", ")}</Text>,
            <Text>{a.source_ips.join(", ")}</Text>, clock(a.first), clock(a.last)]} />
        ))}
      </tbody>
    </Table>
  </section>
);

function Timeline({ timeline }) {
  const [shown, more] = usePages(timeline.length, 200);
  if (!timeline.length) return null;
  return (
    <details>
      <summary>{plural(timeline.length, "write")}</summary>
      <Table caption="Writes, the latest first" columns={["time", "actor", "verb", "changed"]}>
        <tbody role="rowgroup">
          {timeline.slice().reverse().slice(0, shown).map((m) => (
            <Row cells={[clock(m.at), <Actor name={m.actor} />, m.verb, m.changes.length ? <Text>{m.changes.map((c) => `${c.path} ${oldText(c)} → ${newText(c)}`).join("; ")}</Text> : m.effect]} />
          ))}
        </tbody>
      </Table>
      {more}
    </details>
  );
}

/** Says where each fact comes from. */
function provenance(found) {
  const managers = found.actors.filter((a) => a.is_field_manager).map((a) => a.actor);
  const known = found.timeline.filter((w) => w.fields_known).length;
  const lines = [];
  if (managers.length) lines.push(`Field managers of a watch stand for accounts: ${managers.join(", ")}. Several accounts may be behind one.`);
  if (managers.length < found.actors.length) lines.push("Accounts, user agents and addresses: from audit events.");
  if (found.timeline.length) lines.push(`Fields and values: known of ${known} of ${plural(found.timeline.length, "write")} that are kept.`);
  return [...lines, ...basis(found.coverage)];
}

/** Returns what the page says about an object as Markdown, for an issue or a chat. */
function markdown({ object, wars, coverage }) {
  const code = (text) => "`" + plain(text).replaceAll("`", "'").replaceAll("|", "\\|") + "`";
  const out = [`## ${code(objectTitle(object))}${object.cluster ? ` in ${code(object.cluster)}` : ""}`, ""];
  for (const problem of coverage.problems ?? []) out.push(`> ${plain(problem.message)}`, "");
  if (!wars.length) out.push("No war over this object.", "");
  for (const war of wars) {
    const { word } = statusOf(war);
    out.push(`**${word}**, ${war.confidence}, since ${clock(war.since)}, last retake ${clock(war.until)}: ${plural(war.retakes, "retake")}. Cause: ${words(war.cause)}.`, "");
    out.push("| party | class | writes | retakes |", "|---|---|---|---|");
    for (const p of war.parties) out.push(`| ${code(p.actor)} | ${words(p.class)} | ${p.writes} | ${p.retakes} |`);
    out.push("", "| field | values |", "|---|---|");
    for (const f of war.fields.slice(0, 10)) out.push(`| ${code(f.path)} | ${f.values.slice(0, 6).map((v) => `${code(valueText(v))} by ${code(shortActor(v.actor))}`).join(", ")} |`);
    out.push("");
    for (const r of war.remedies.filter((r) => r.kind !== "delete")) out.push(`- ${plain(r.title)}`, "", "  ```sh", `  ${plain(r.command)}`, "  ```", "");
  }
  out.push(`As of ${clock(coverage.last)}. ${location.href}`);
  return out.join("\n");
}
