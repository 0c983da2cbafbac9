//! The OpenAPI 3.1 document. It is generated from the routes and from the types that are sent, so that it always agrees
//! with them.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::reply::Problem;
use super::route::{OBJECTS_SHOWN, OBJECTS_SHOWN_MAX, Operation, Parameter, ParameterKind, Route};

/// Returns the document that `/openapi.json` serves.
pub(super) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut types = settings.with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
    let mut paths = Map::new();
    for route in routes {
        if let Some(operation) = &route.operation {
            let described = describe(operation, route.parameters, &mut types);
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.as_str().to_ascii_lowercase()] = described;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "editwar", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Find out who is fighting over a Kubernetes object: which field, which values, since when."},
        "paths": paths,
        "components": {"schemas": types.take_definitions(true)},
    })
}

fn describe(operation: &Operation, parameters: &[Parameter], types: &mut SchemaGenerator) -> Value {
    let json_content = |schema: &Value| json!({"application/json": {"schema": schema}});
    let content = match operation.schema {
        Some(schema) => json_content(&schema(types)),
        None => json!({"text/plain": {"schema": {"type": "string"}}}),
    };
    let mut responses = json!({"200": {"description": "The answer.", "content": content}});
    let problem = types.subschema_for::<Problem<'_>>().to_value();
    for (status, description) in operation.errors {
        responses[status] = json!({"description": description, "content": json_content(&problem)});
    }
    let parameters: Vec<Value> = parameters.iter().map(parameter).collect();
    json!({"operationId": operation.id, "summary": operation.summary, "parameters": parameters, "responses": responses})
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { name, description, kind } = *parameter;
    let schema = match kind {
        ParameterKind::Segment | ParameterKind::Text => json!({"type": "string"}),
        ParameterKind::Flag => json!({"type": "boolean"}),
        ParameterKind::Limit => {
            json!({"type": "integer", "minimum": 1, "maximum": OBJECTS_SHOWN_MAX, "default": OBJECTS_SHOWN})
        }
    };
    let mut described = json!({"name": name, "in": "query", "description": description, "schema": schema});
    if kind == ParameterKind::Segment {
        described["in"] = "path".into();
        described["required"] = true.into();
    }
    described
}
