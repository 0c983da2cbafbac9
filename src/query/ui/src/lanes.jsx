// The values of a field over time, with one lane for each writer. It can be zoomed and read by pointer, touch, keyboard and screen
// reader.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { clock, newKey, newText, plain, plural, shortActor } from "./format.js";
import { Row, Table, Text, Value } from "./parts.jsx";

const COLOURS = 8;
const LANE = 44;
const LABEL = 16;
const SIDE = 12;

/** Returns the writes that set a field, or that created or deleted the object. */
export function marksOf(timeline, path, parties) {
  const names = new Set(parties.map((p) => p.actor));
  const mark = (write, value, key) => {
    // An account that fights itself is shown by its tools.
    const party = `${write.actor} via ${write.tool}`;
    const actor = names.has(party) ? party : write.actor;
    return { id: `${write.at} ${actor} ${key}`, at: Date.parse(write.at), time: write.at, actor, value, key };
  };
  return timeline.flatMap((write) => {
    const change = write.changes.find((c) => c.path === path);
    if (change) return [mark(write, newText(change), newKey(change))];
    const isWhole = path === `(${write.part})` || (path === "(object)" && write.effect !== "modify");
    return isWhole ? [mark(write, write.effect, write.effect)] : [];
  });
}

export function Lanes({ timeline, path, gaps, parties, since }) {
  const frame = useRef(null);
  const [width, setWidth] = useState(700);
  const [view, setView] = useState(null);
  const [chosen, setChosen] = useState("");
  const drag = useRef(null);
  const marks = marksOf(timeline, path, parties);
  const selected = marks.findIndex((m) => m.id === chosen);
  const setSelected = (index) => setChosen(marks[index]?.id ?? "");
  const isShown = marks.length >= 2;
  useLayoutEffect(() => {
    if (!frame.current) return undefined;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(240, Math.floor(entry.contentRect.width))));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, [isShown]);
  if (!isShown) return null;

  const actors = [...new Set(marks.map((m) => m.actor))];
  const values = [...new Map(marks.map((m) => [m.key, m.value]))];
  const keys = values.map(([key]) => key);
  const whole = [marks[0].at, Math.max(marks.at(-1).at, marks[0].at + 1)];
  const [from, to] = view ?? whole;
  const x = (at) => SIDE + ((at - from) / (to - from)) * (width - 2 * SIDE);
  const height = actors.length * LANE + 20;
  const middle = (i) => i * LANE + LABEL + (LANE - LABEL) / 2;
  const colour = (key) => `mark-${keys.indexOf(key) % COLOURS}`;

  const zoom = (factor, around = (from + to) / 2) => {
    const span = Math.max(200, (to - from) * factor);
    if (span >= whole[1] - whole[0]) return setView(null);
    const start = Math.min(Math.max(around - (around - from) * (span / (to - from)), whole[0]), whole[1] - span);
    return setView([start, start + span]);
  };
  const pan = (by) => {
    if (!view) return;
    const shift = Math.min(Math.max(by, whole[0] - from), whole[1] - to);
    setView([from + shift, to + shift]);
  };
  const choose = (index) => {
    setSelected(index);
    const { at } = marks[index];
    if (at < from || at > to) pan(at - (from + to) / 2);
  };
  const onKeyDown = (event) => {
    const last = marks.length - 1;
    const step = {
      ArrowRight: () => choose(Math.min(selected + 1, last)), ArrowLeft: () => choose(selected < 0 ? last : Math.max(selected - 1, 0)),
      Home: () => choose(0), End: () => choose(last), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => setView(null), Escape: () => setSelected(-1),
    }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    step();
  };
  const timeAt = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return from + ((event.clientX - box.left - SIDE) / (width - 2 * SIDE)) * (to - from);
  };
  const onWheel = (event) => {
    // Without a modifier, the wheel scrolls the page.
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 || event.deltaX > 0 ? 1.25 : 0.8, timeAt(event));
  };
  const onPointerMove = (event) => {
    if (drag.current?.id !== event.pointerId || !view) return;
    pan(((drag.current.x - event.clientX) / (width - 2 * SIDE)) * (to - from));
    drag.current.x = event.clientX;
  };
  const mark = marks[selected];
  const label = `${path} over time: ${marks.length} writes by ${actors.map(shortActor).join(" and ")}. Arrow keys select a write, plus and minus zoom.`;
  const shownGaps = gaps.map((g) => [Date.parse(g.from), Date.parse(g.to)]).filter(([a, b]) => b > from && a < to);
  return (
    <section class="lanes" aria-label={plain(`values of ${path}`)}>
      <h3><code><Text>{path}</Text></code></h3>
      {timeline.length > 0 && Date.parse(timeline[0].at) > Date.parse(since) && <p class="dim">Earlier writes are no longer kept: the first one shown is of {clock(timeline[0].at)}.</p>}
      <div ref={frame} class="frame">
        <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="application" aria-roledescription="timeline"
          aria-label={plain(label)} tabindex={0} onKeyDown={onKeyDown} onWheel={onWheel}
          onPointerDown={(event) => { drag.current ??= { id: event.pointerId, x: event.clientX }; }} onPointerMove={onPointerMove}
          onPointerUp={() => { drag.current = null; }} onPointerLeave={() => { drag.current = null; }} onPointerCancel={() => { drag.current = null; }}>
          {shownGaps.map(([a, b]) => (
            <rect class="gap" x={x(Math.max(a, from))} y={0} width={x(Math.min(b, to)) - x(Math.max(a, from))} height={actors.length * LANE}><title>no audit events</title></rect>
          ))}
          {actors.map((actor, i) => (
            <g>
              <text x={0} y={i * LANE + LABEL - 4}>{plain(fit(shortActor(actor), width))}<title>{plain(actor)}</title></text>
              <line x1={0} x2={width} y1={middle(i)} y2={middle(i)} />
            </g>
          ))}
          {marks.map((m, i) => {
            if (m.at < from || m.at > to) return null;
            const y = middle(actors.indexOf(m.actor));
            return (
              <g class={`mark ${colour(m.key)}${i === selected ? " selected" : ""}`} onClick={() => setSelected(i)}>
                <rect x={x(m.at) - 9} y={y - 10} width={18} height={20} rx={3} />
                {m.value.length <= 3 && <text x={x(m.at)} y={y + 4} text-anchor="middle">{plain(m.value)}</text>}
                <title>{plain(`${clock(m.time)} ${m.actor}: ${m.value}`)}</title>
              </g>
            );
          })}
          <text class="axis" x={0} y={height - 4}>{clock(new Date(from).toISOString())}</text>
          <text class="axis" x={width} y={height - 4} text-anchor="end">{width > 420 ? clock(new Date(to).toISOString()) : clock(new Date(to).toISOString()).slice(11)}</text>
        </svg>
      </div>
      <p class="controls">
        <button type="button" onClick={() => zoom(0.5)} aria-label="Zoom in">+</button>
        <button type="button" onClick={() => zoom(2)} aria-disabled={!view} aria-label="Zoom out">−</button>
        <button type="button" onClick={() => pan((from - to) / 2)} aria-disabled={!view || from <= whole[0]} aria-label="Earlier">←</button>
        <button type="button" onClick={() => pan((to - from) / 2)} aria-disabled={!view || to >= whole[1]} aria-label="Later">→</button>
        <button type="button" onClick={() => setView(null)} aria-disabled={!view}>All</button>
        <span class="keys">{values.slice(0, COLOURS).map(([key, v]) => <span><span class={`key ${colour(key)}`} /><Value>{v}</Value></span>)}{values.length > COLOURS && <span class="dim">and {values.length - COLOURS} more values</span>}</span>
      </p>
      <p class="selection" aria-live="polite">
        {mark && <><strong>{clock(mark.time)}</strong> <Text>{mark.actor}</Text> wrote <Value>{mark.value}</Value> <span class="dim">({selected + 1} of {marks.length})</span></>}
      </p>
      <details>
        <summary>As a table: {plural(marks.length, "write")}</summary>
        <Table caption={`Writes of ${path}`} columns={["time", "actor", "value"]}>
          <tbody role="rowgroup">{marks.slice(-500).map((m) => <Row cells={[clock(m.time), <Text>{m.actor}</Text>, <Value>{m.value}</Value>]} />)}</tbody>
        </Table>
      </details>
    </section>
  );
}

function fit(text, width) {
  const max = Math.floor(width / 7.2);
  return text.length > max ? "…" + text.slice(1 - max) : text;
}
