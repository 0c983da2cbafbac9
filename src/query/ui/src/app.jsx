// The frame of all views: the header, the state of the connection, and the view that the URL names.

import { Component } from "preact";
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { ActorView, Actors } from "./actors.jsx";
import { clock, duration, plain, shortActor } from "./format.js";
import { ObjectView } from "./object.jsx";
import { Text } from "./parts.jsx";
import { link, parse } from "./route.js";
import { Sources } from "./sources.jsx";
import { TILES, Wars } from "./wars.jsx";

const VIEWS = { wars: Wars, actors: Actors, actor: ActorView, object: ObjectView, sources: Sources };
const NAVIGATION = { wars: "Wars", actors: "Actors", sources: "Sources" };

/** Shows an error of a view instead of an empty page. */
class Boundary extends Component {
  componentDidCatch(error) {
    this.setState({ error });
  }

  render({ children }, { error }) {
    return error ? <p class="problem"><strong>This view cannot be shown: </strong><Text>{error.message}</Text> <a href="#/wars">Show the list</a></p> : children;
  }
}

export function App({ overview }) {
  const [, refresh] = useState(0);
  const [route, setRoute] = useState(() => parse(location.hash));
  const redraw = () => refresh((n) => n + 1);
  useLayoutEffect(() => { overview.listener = redraw; }, []);
  useEffect(() => {
    // Ages and timers change without news from the server.
    const timer = setInterval(() => document.hidden || redraw(), 5000);
    const onHash = () => {
      const next = parse(location.hash);
      setRoute((was) => {
        if (was.view !== next.view || was.rest !== next.rest) {
          scrollTo(0, 0);
          document.getElementById("main").focus({ preventScroll: true });
        }
        return next;
      });
    };
    addEventListener("hashchange", onHash);
    return () => { clearInterval(timer); removeEventListener("hashchange", onHash); };
  }, []);
  const View = VIEWS[route.view];
  useEffect(() => { document.title = plain(titleOf(route, overview)); });
  const isLost = overview.connection === "lost";
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
      <header>
        <p class="brand"><a href="#/wars">editwar</a></p>
        <nav aria-label="Views">
          {Object.entries(NAVIGATION).map(([view, name]) => <a href={link(view)} aria-current={view === route.view ? "page" : undefined}>{name}</a>)}
        </nav>
        <p class={isLost ? "status bad" : "status"}>{connectionText(overview)}</p>
        {sessionStorage.getItem("token") && overview.connection !== "unauthorized" && <button type="button" onClick={logOut}>Log out</button>}
      </header>
      <div role="alert">
        {isLost && (
          <p class="problem lost">
            <strong>The server does not answer</strong> since {clock(overview.lostSince)}{overview.error && <> (<Text>{overview.error}</Text>)</>}.{" "}
            {overview.head ? `What is shown is as of ${clock(overview.head.as_of)}.` : ""} Trying again.
          </p>
        )}
      </div>
      <main id="main" tabIndex={-1} class={isLost ? "outdated" : undefined}>
        {overview.connection === "unauthorized" ? <Login overview={overview} /> : <Boundary key={`${route.view}/${route.rest}`}><View overview={overview} route={route} /></Boundary>}
      </main>
    </>
  );
}

function logOut() {
  sessionStorage.removeItem("token");
  location.reload();
}

function connectionText({ connection, head }) {
  if (connection === "connecting") return "connecting…";
  if (connection === "unauthorized") return "";
  if (connection === "starting") return "the server is starting and reads its journal";
  if (connection === "paused") return "paused while hidden";
  const asOf = head?.as_of ? `as of ${clock(head.as_of)} (${duration(head.as_of, new Date().toISOString())} ago)` : "no event yet";
  return connection === "lost" ? `not connected; ${asOf}` : `live, ${asOf}`;
}

function titleOf(route, overview) {
  const ongoing = [...overview.rows.values()].filter(TILES[0].is).length;
  const count = ongoing ? `(${ongoing}) ` : "";
  if (route.view === "object") {
    const [, namespace, name] = route.parts;
    return `${count}${namespace === "-" ? "" : `${namespace}/`}${name} · editwar`;
  }
  if (route.view === "actor") return `${count}${shortActor(route.parts[0])} · editwar`;
  return `${count}${route.view === "wars" ? "" : NAVIGATION[route.view] + " · "}editwar`;
}

function Login({ overview }) {
  const [error, setError] = useState(sessionStorage.getItem("token") ? "The server does not accept this token, or it lacks the right to read." : "");
  const onSubmit = (event) => {
    event.preventDefault();
    const token = event.currentTarget.token.value.trim();
    // A header can have no other characters.
    if (!/^[\x21-\x7e]+$/.test(token)) return setError("A token consists of letters, digits and punctuation.");
    sessionStorage.setItem("token", token);
    overview.connection = "connecting";
    overview.listener();
    return overview.run();
  };
  return (
    <form class="login" onSubmit={onSubmit}>
      <h1>Log in</h1>
      <p>This server requires authentication. Enter a token with the right to read; only this tab keeps it.</p>
      <label>token <input name="token" type="password" autocomplete="off" /></label> <button>Log in</button>
      {error && <p class="problem">{error}</p>}
    </form>
  );
}
