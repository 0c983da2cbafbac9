// The sources: which of them deliver events, how late, with which gaps, and what would not be seen.

import { useAnswer } from "./api.js";
import { basis, clock, duration, plural } from "./format.js";
import { Problems, Row, Table, Text } from "./parts.jsx";

export function Sources({ overview }) {
  const { found, error } = useAnswer("api/v1/sources", "", 5000);
  const late = new Set(overview.head?.late_sources ?? []);
  if (error && !found) return <p class="problem"><strong>Error: </strong><Text>{error}</Text></p>;
  if (!found) return <p class="lead">Loading…</p>;
  const { coverage, kinds, sources, stats } = found;
  return (
    <>
      <h1>Sources</h1>
      {error && <p class="problem"><strong>Out of date: </strong><Text>{error}</Text></p>}
      <Problems coverage={coverage} />
      <p class="lead">
        {plural(stats.events, "event")}, of which {plural(stats.writes, "write")}.{" "}
        {sources.map((s) => `${s.name}: ${s.is_ready ? "ready" : "not ready"}`).join(", ")}.
      </p>
      <h2>What would I not see?</h2>
      <ul>{blindSpots(found).map((line) => <li><Text>{line}</Text></li>)}</ul>
      <h2>Feeds</h2>
      {coverage.sources.length === 0 ? <p>No event has arrived yet.</p> : (
        <Table caption="Feeds" columns={["source", "latest event", "behind", "first event", "gaps"]}>
          <tbody role="rowgroup">
            {coverage.sources.map((s) => (
              <Row key={s.source} cells={[
                <Text>{s.source}</Text>, clock(s.last),
                <span class={late.has(s.source) ? "bad" : ""}>{duration(s.last, found.now)}</span>, clock(s.first),
                s.gaps.length ? <ul class="plain">{s.gaps.slice(-5).map((g) => <li>{clock(g.from)} to {clock(g.to)}</li>)}{s.gaps.length > 5 && <li class="dim">and {s.gaps.length - 5} earlier ones</li>}</ul> : "none",
              ]} />
            ))}
          </tbody>
        </Table>
      )}
      {(coverage.feeds ?? []).length > 0 && (
        <Table caption="Formats and caveats" columns={["source", "formats", "what to know"]}>
          <tbody role="rowgroup">
            {coverage.feeds.map((f) => (
              <Row key={f.source} cells={[
                <Text>{f.source}</Text>,
                <ul class="plain">{Object.entries(f.formats ?? {}).map(([name, count]) => <li><Text>{name}</Text> <span class="dim">{count.toLocaleString("en")}</span></li>)}</ul>,
                <ul class="plain">{f.caveats.map((c) => <li><Text>{c}</Text></li>)}</ul>,
              ]} />
            ))}
          </tbody>
        </Table>
      )}
      <h2>Evidence by kind</h2>
      <Table caption="Evidence by kind" columns={["resource", { name: "writes", number: true }, { name: "objects", number: true }, { name: "with known fields", number: true }]}>
        <tbody role="rowgroup">
          {kinds.slice(0, 60).map((k) => (
            <Row key={`${k.resource}.${k.group}`} cells={[
              <Text>{k.group ? `${k.resource}.${k.group}` : k.resource}</Text>, k.writes.toLocaleString("en"), k.objects.toLocaleString("en"),
              `${Math.floor((100 * k.with_fields) / k.objects)} %`,
            ]} />
          ))}
        </tbody>
      </Table>
      {kinds.length > 60 && <p class="dim">and {kinds.length - 60} more kinds with fewer writes</p>}
      <h2>Basis</h2>
      {basis(coverage).map((line) => <p class="dim"><Text>{line}</Text></p>)}
    </>
  );
}

/** Sentences about wars that could not be seen. */
function blindSpots({ coverage, kinds, stats }) {
  const spots = (coverage.problems ?? []).map((p) => p.message);
  const bare = kinds.filter((k) => k.with_fields === 0);
  const name = (k) => (k.group ? `${k.resource}.${k.group}` : k.resource);
  if (bare.length) {
    const names = bare.slice(0, 6).map(name).join(", ") + (bare.length > 6 ? ` and ${plural(bare.length - 6, "more kind")}` : "");
    spots.push(`Which fields of ${names} are fought over: no event of them has a body, so wars stay undecided.`);
  }
  if (coverage.gaps.length) spots.push(`What happened in ${plural(coverage.gaps.length, "gap")} in which no source delivered events.`);
  if (coverage.truncated) spots.push(`The fields of ${plural(coverage.truncated, "write")} whose bodies kube-apiserver truncated.`);
  if (stats.ignored) spots.push(`${plural(stats.ignored, "request")} about objects that the configuration excludes.`);
  if (stats.malformed) spots.push(`${plural(stats.malformed, "event")} that could not be read.`);
  if (stats.evicted) spots.push(`The past of ${plural(stats.evicted, "object")} that left memory.`);
  if (coverage.first) spots.push(`Anything before ${clock(coverage.first)}.`);
  return spots.length ? spots : ["Everything: no event has arrived yet."];
}
