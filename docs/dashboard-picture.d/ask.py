"""Asks Prometheus what Grafana would ask it for the dashboard: FROM is minutes before END. Prints a script for the page."""
import json, sys, time, urllib.parse, urllib.request

prometheus, end, minutes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
STEP = 2
end -= end % STEP
start = end - int(minutes * 60)
dashboard = json.load(open("deploy/grafana/dashboard.json"))

def ask(path, **query):
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
                return json.load(answer)["data"]["result"]
        except OSError:  # Prometheus does not answer yet.
            time.sleep(0.5)
    sys.exit(f"no answer to {query}")

def answer(target):
    # What Grafana puts in for its variables, where steps are short.
    expr = target["expr"]
    for name, seconds in (("rate_interval", 4 * STEP), ("interval", STEP), ("range", end - start)):
        expr = expr.replace(f"$__{name}", f"{seconds}s")
    instant = target.get("instant", False)
    result = ask("query", query=expr, time=end) if instant else ask("query_range", query=expr, start=start, end=end, step=STEP)
    return {"refId": target["refId"], "legend": target.get("legendFormat", ""), "table": target.get("format") == "table", "result": result}

answers = {panel["id"]: [answer(target) for target in panel["targets"]] for panel in dashboard["panels"]}
for panel in dashboard["panels"]:
    print(*(len(one["result"]) for one in answers[panel["id"]]), "series:", panel["title"], file=sys.stderr)
picture = {"dashboard": dashboard, "from": start * 1000, "to": end * 1000, "step": STEP * 1000, "answers": answers}
print(f"window.picture = {json.dumps(picture)};")
