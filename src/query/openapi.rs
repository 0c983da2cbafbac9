//! The OpenAPI 3.1 document. Schemas are generated from the types that are sent, so that both always agree.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::answers::{Decision, Problem, Sides, Switched, Timeline};
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
    let unknown = ("400", "Unknown parameter.");
    let unseen = ("404", "editwar has seen no write to this object.");
    let objects = "/api/v1/objects/{resource}/{namespace}/{name}";
    let mut paths = json!({
        "/api/v1/wars": get("wars", "List the wars, the worst first, and hot loops, contention and flapping admission.",
            json!([query("namespace", "Only this namespace."), query("kind", "Only this kind, in any form that kubectl accepts."), query("name", "Only this name."),
                query("cluster", "Only this cluster."), query("actor", "Only wars with a party whose name contains this."),
                {"name": "all", "in": "query", "description": "Include objects that were contested but never thrashed.", "schema": {"type": "boolean"}},
                {"name": "limit", "in": "query", "description": "Maximum number of objects, the most urgent first.", "schema": {"type": "integer", "minimum": 1, "maximum": 5000, "default": 1000}}]),
            schema::<Report>(&mut types), &[unknown]),
        "/api/v1/participants": get("find", "Find an object by kind and name, and show its writers.",
            json!([query("kind", "Kind of the object, in any form that kubectl accepts."), query("name", "Name of the object."),
                query("namespace", "Namespace of the object."), query("cluster", "Cluster of the object."), since()]),
            schema::<Participants>(&mut types), &[unknown, ("404", "No object matches, or several do.")]),
    });
    paths["/api/v1/transitions"] = get(
        "transitions",
        "List past changes of verdicts from the journal, by default of the last day.",
        json!([
            since(),
            query("namespace", "Only this namespace."),
            query("kind", "Only this kind, in any form that kubectl accepts."),
            query("name", "Only this name."),
            query("cluster", "Only this cluster.")
        ]),
        schema::<Transitions>(&mut types),
        &[unknown, ("501", "The server has no journal."), ("503", "The journal cannot be read at the moment.")],
    );
    paths[objects] = get(
        "object",
        "Show the writers, the wars and the writes of one object.",
        object_since(),
        schema::<Participants>(&mut types),
        &[unseen],
    );
    paths[format!("{objects}/participants")] = get(
        "participants",
        "Show the parties and the other writers of one object.",
        object_since(),
        schema::<Sides>(&mut types),
        &[unseen],
    );
    paths[format!("{objects}/timeline")] = get(
        "timeline",
        "Show the writes to one object, in order.",
        object_since(),
        schema::<Timeline>(&mut types),
        &[unseen],
    );
    paths[format!("{objects}/decision")] = get(
        "decision",
        "Decide whether a reconciler may write this object now. With watch=true, stream a line of JSON now, at every change, and every 30 s.",
        decision_parameters(),
        schema::<Decision>(&mut types),
        &[],
    );
    let switched = schema::<Switched>(&mut types);
    for (action, summary) in [
        (
            "stop",
            "Turn the kill switch on: lift all pauses and stop all other writes. Waits up to 5 s, then lists the pauses that are not lifted yet.",
        ),
        ("start", "Turn the kill switch off."),
    ] {
        paths[format!("/api/v1/enforcement/{action}")] = json!({"post": {"operationId": action, "summary": summary, "responses": {
            "200": answer("The answer.", &switched),
            "404": answer("The server has no enforcer.", &problem),
            "415": answer("The content is not application/json.", &problem),
        }}});
    }
    let level = |summary: &str, parameters: Value| {
        json!({"operationId": summary, "summary": summary, "parameters": parameters, "responses": {
            "200": {"description": "The current log level, as text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            "400": answer("Unknown log level.", &problem),
            "403": answer("Only local clients may change the log level.", &problem),
        }})
    };
    paths["/log-level"] = json!({
        "put": level("Change what is logged.", json!([query("level", "error, warn, info, debug, trace, or such as info,editwar::ingest=debug.")])),
    });
    json!({
        "openapi": "3.1.0",
        "info": {"title": "editwar", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Find out who is fighting over a Kubernetes object: which field, which values, since when."},
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
        "Answer from the journal, starting at this time (RFC 3339) or this long before the latest event, such as 7d.",
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
        path("resource", "RESOURCE.GROUP, such as deployments.apps, or RESOURCE in the core group."),
        path("namespace", "Namespace of the object, or - for cluster-scoped objects."),
        path("name", "Name of the object."),
        query("cluster", "Cluster of the object, if the server watches several."),
    ])
}

/// Returns the parameters that name an object, and whether to watch it.
fn decision_parameters() -> Value {
    let mut parameters = object();
    let watch = json!({"name": "watch", "in": "query", "description": "Keep the response open and send a line for each change.", "schema": {"type": "boolean"}});
    parameters.as_array_mut().expect("they are a list").push(watch);
    parameters
}
