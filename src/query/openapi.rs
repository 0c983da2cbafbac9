//! The OpenAPI 3.1 document. Schemas are generated from the types that are sent, so that both always agree.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::api::{Decision, Problem, Sides, Switched, Timeline};
use super::views::{Participants, Report, Transitions};

/// Returns the document that `/openapi.json` serves.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut types = settings.with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
    let problem = schema::<Problem<'_>>(&mut types);
    let answer = |description: &str, schema: &Value| json!({"description": description, "content": {"application/json": {"schema": schema}}});
    let get = |id: &str, summary: &str, parameters: Value, schema: Value, errors: &[(&str, &str)]| {
        let mut responses = json!({"200": answer("The answer.", &schema)});
        for (status, description) in errors {
            responses[status] = answer(description, &problem);
        }
        json!({"get": {"operationId": id, "summary": summary, "parameters": parameters, "responses": responses}})
    };
    let unknown = ("400", "A parameter is not known.");
    let unseen = ("404", "No write to this object was seen.");
    let objects = "/api/v1/objects/{resource}/{namespace}/{name}";
    let mut paths = json!({
        "/api/v1/wars": get("wars", "Objects that are fought over, the worst first; hot loops, contention and flapping admission beside them.",
            json!([query("namespace", "Only this namespace."), query("kind", "Only this kind, as kubectl takes it."), query("name", "Only this name."),
                query("cluster", "Only this cluster."), query("actor", "Only wars with a party whose name contains this."),
                {"name": "all", "in": "query", "description": "Contested objects too.", "schema": {"type": "boolean"}},
                {"name": "limit", "in": "query", "description": "The most objects to tell of, the most urgent first.", "schema": {"type": "integer", "minimum": 1, "maximum": 5000, "default": 1000}}]),
            schema::<Report>(&mut types), &[unknown]),
        "/api/v1/participants": get("find", "The object that a kind and a name mean, and who takes part in it.",
            json!([query("kind", "As kubectl takes it."), query("name", "Its name."), query("namespace", "Its namespace."), query("cluster", "Its cluster."), since()]),
            schema::<Participants>(&mut types), &[unknown, ("404", "No such object was seen, or several are meant.")]),
    });
    paths["/api/v1/transitions"] = get(
        "transitions",
        "How verdicts changed, from the journal: what wars there were. Of the last day, or since.",
        json!([
            since(),
            query("namespace", "Only this namespace."),
            query("kind", "Only this kind, as kubectl takes it."),
            query("name", "Only this name."),
            query("cluster", "Only this cluster.")
        ]),
        schema::<Transitions>(&mut types),
        &[unknown, ("501", "The server has no journal."), ("503", "The journal cannot be read now.")],
    );
    paths[objects] = get(
        "object",
        "Who takes part in one object, its war and its writes.",
        object_since(),
        schema::<Participants>(&mut types),
        &[unseen],
    );
    paths[format!("{objects}/participants")] =
        get("participants", "Parties and other_writers.", object_since(), schema::<Sides>(&mut types), &[unseen]);
    paths[format!("{objects}/timeline")] =
        get("timeline", "The writes in order.", object_since(), schema::<Timeline>(&mut types), &[unseen]);
    paths[format!("{objects}/decision")] = get(
        "decision",
        "May a reconciler write this object now? With watch=true one line of JSON now, at every change, and every 30 s.",
        decision_parameters(),
        schema::<Decision>(&mut types),
        &[],
    );
    let switched = schema::<Switched>(&mut types);
    for (action, summary) in [
        (
            "stop",
            "Lift all pauses and write nothing else any more; the answer waits up to 5 s for the pauses, and names those that are not lifted yet.",
        ),
        ("start", "Enforce again."),
    ] {
        paths[format!("/api/v1/enforcement/{action}")] = json!({"post": {"operationId": action, "summary": summary, "responses": {
            "200": answer("The answer.", &switched),
            "404": answer("Nothing is enforced.", &problem),
            "415": answer("The content is not application/json.", &problem),
        }}});
    }
    let level = |summary: &str, parameters: Value| {
        json!({"operationId": summary, "summary": summary, "parameters": parameters, "responses": {
            "200": {"description": "The level in force, as text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            "400": answer("There is no such level.", &problem),
            "403": answer("Not from elsewhere than the machine itself.", &problem),
        }})
    };
    paths["/log-level"] = json!({
        "put": level("Change what is logged.", json!([query("level", "error, warn, info, debug, trace, or such as info,editwar::ingest=debug.")])),
    });
    json!({
        "openapi": "3.1.0",
        "info": {"title": "editwar", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Who is fighting over a Kubernetes object, over which field, with which values, since when."},
        "paths": paths,
        "components": {"schemas": types.take_definitions(true)},
    })
}

fn schema<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}

fn query(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
}

/// Returns the parameter that asks for an answer from the journal.
fn since() -> Value {
    query(
        "since",
        "Answer from the journal: from this time (RFC 3339) on, or this long before the latest event, such as 7d.",
    )
}

/// Returns the parameters that name an object, and how far to look back.
fn object_since() -> Value {
    let mut parameters = object();
    parameters.as_array_mut().expect("it is one").push(since());
    parameters
}

/// Returns the parameters that name an object.
fn object() -> Value {
    let path = |name: &str, description: &str| json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}});
    json!([
        path("resource", "RESOURCE.GROUP, such as deployments.apps; only RESOURCE in the core group."),
        path("namespace", "The namespace, or - where there is none."),
        path("name", "The name."),
        query("cluster", "The cluster, where there are several."),
    ])
}

/// Returns the parameters that name an object, and whether to watch it.
fn decision_parameters() -> Value {
    let mut parameters = object();
    let watch = json!({"name": "watch", "in": "query", "description": "Go on: a line for each change.", "schema": {"type": "boolean"}});
    parameters.as_array_mut().expect("they are a list").push(watch);
    parameters
}
