// Parts that several views use.

import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import { PROBLEMS, objectPath, objectTitle, plain, shortActor, statusOf } from "./format.js";
import { actorLink, objectLink } from "./route.js";

/** Text from outside, with invisible characters shown. */
export const Text = ({ children }) => <bdi>{plain(children ?? "")}</bdi>;

export const Actor = ({ name }) => <a href={actorLink(name)} title={plain(name)}><Text>{shortActor(name)}</Text></a>;

export const ObjectLink = ({ object, withCluster }) => (
  <a href={objectLink(objectPath(object))}>
    <Text>{objectTitle(object) + (withCluster && object.cluster ? ` (${object.cluster})` : "")}</Text>
  </a>
);

export function Status({ war, inline }) {
  const { word, className, note } = statusOf(war);
  return (
    <>
      <span class={`state ${className}`}>{word}</span>
      {war.is_paused && <span class="state paused"> paused</span>}
      {note && (inline ? <span class="dim"> {note}</span> : <div class="dim">{note}</div>)}
    </>
  );
}

export const Value = ({ children }) => <span class="value"><Text>{children}</Text></span>;

/** The names of the columns: on narrow screens, where each row is a card, cells show the name of their column. */
const Columns = createContext([]);

/** A table in a region that scrolls by itself. `columns` are names, or objects with `name`, `number` and `sort`. */
export function Table({ columns: given, caption, sorted, onSort, children }) {
  const columns = given.map((column) => (typeof column === "string" ? { name: column } : column));
  const sortOf = (c) => (c.sort === undefined ? undefined : sorted?.key === c.sort ? (sorted.down ? "descending" : "ascending") : "none");
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={plain(caption)}>
      <table role="table">
        <caption class="hidden">{plain(caption)}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((c) => {
              const arrow = { ascending: " ↑", descending: " ↓" }[sortOf(c)] ?? "";
              return (
                <th scope="col" role="columnheader" class={c.number ? "number" : undefined} aria-sort={sortOf(c)}>
                  {c.sort === undefined ? c.name : <button type="button" class="sort" onClick={() => onSort(c.sort)}>{c.name}{arrow}</button>}
                </th>
              );
            })}
          </tr>
        </thead>
        <Columns.Provider value={columns}>{children}</Columns.Provider>
      </table>
    </div>
  );
}

/** A row with a cell for each column. */
export function Row({ cells }) {
  const columns = useContext(Columns);
  const isEmpty = (cell) => cell === "" || cell === null || cell === undefined;
  return (
    <tr role="row">
      {cells.map((cell, i) => (
        <td role="cell" data-label={columns[i].name} class={`${columns[i].number ? "number" : ""}${isEmpty(cell) ? " empty" : ""}`}><div>{cell}</div></td>
      ))}
    </tr>
  );
}

/** Shows the reasons why the answer may miss a war. */
export const Problems = ({ coverage }) =>
  (coverage?.problems ?? []).map((p) => (
    <p class="problem"><strong>{PROBLEMS[p.kind] ?? "Incomplete"}: </strong><Text>{p.message}</Text></p>
  ));

/** A button that copies a text, and says so for a moment. */
export function Copy({ text, label = "Copy", what = "" }) {
  const [state, setState] = useState("");
  useEffect(() => {
    if (!state) return undefined;
    const timer = setTimeout(() => setState(""), 2000);
    return () => clearTimeout(timer);
  }, [state]);
  // Only secure origins have a clipboard.
  if (!navigator.clipboard) return null;
  const copy = async () => {
    const value = typeof text === "function" ? text() : text;
    await navigator.clipboard.writeText(value).then(() => setState("Copied"), () => setState("Not copied"));
  };
  return (
    <button type="button" onClick={copy} aria-label={what ? `${label} ${plain(what)}` : undefined}>
      <span aria-live="polite">{state || label}</span>
    </button>
  );
}

export const Command = ({ line }) => (
  <div class="command"><pre tabIndex={0}><Text>{line}</Text></pre><Copy text={line} what={line} /></div>
);

/** Shows only the first rows of a long list, with a button for more. Starts again when `key` changes. */
export function usePages(length, size = 100, key = "") {
  const [state, setState] = useState({ key, pages: 1 });
  const pages = state.key === key ? state.pages : 1;
  const shown = Math.min(length, pages * size);
  const more = shown < length && (
    <p>
      <button type="button" onClick={() => setState({ key, pages: pages + 1 })}>Show {Math.min(size, length - shown)} more</button>{" "}
      <span class="dim">{shown.toLocaleString("en")} of {length.toLocaleString("en")}</span>
    </p>
  );
  return [shown, more];
}
