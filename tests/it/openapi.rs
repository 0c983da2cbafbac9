//! Checks that the OpenAPI document matches the actual responses.

use serde_json::{Value, json};

use crate::serve::Server;

/// Returns the schema of a response, with everything that it refers to.
fn schema(document: &Value, path: &str, status: &str) -> jsonschema::Validator {
    let answer = &document["paths"][path]["get"]["responses"][status]["content"]["application/json"]["schema"];
    assert!(answer.is_object(), "{path} has no answer {status}");
    let schema = json!({"allOf": [answer], "components": document["components"]});
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn every_response_matches_the_openapi_document() {
    let folder = crate::envtest::scratch("openapi");
    let server = Server::start(&["--journal", folder.join("journal").to_str().unwrap()]).ready();
    let document = server.json("/openapi.json");
    for recording in ["hpa-vs-applier", "oddities", "flapping-webhook", "gitops-vs-kubectl-metadata"] {
        server.post_log(recording);
    }
    let mut seen = 0;
    let is_asked = |path: &&Value| path.get("get").is_some();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(_, path)| is_asked(path));
    for path in paths.map(|(name, _)| name) {
        let asked: Vec<String> = match path.strip_prefix("/api/v1/objects/{resource}/{namespace}/{name}") {
            None => vec![
                path.replace("participants", "participants?kind=deployment&name=web")
                    .replace("transitions", "transitions?since=100d")
                    .replace("writes", "writes?actor=alice"),
            ],
            Some(rest) => ["deployments.apps/shop/web", "secrets/war/sec", "configmaps/war/phoenix"]
                .map(|object| format!("/api/v1/objects/{object}{rest}"))
                .to_vec(),
        };
        for url in asked {
            let answer = server.json(&url);
            let errors: Vec<String> = schema(&document, path, "200")
                .iter_errors(&answer)
                .map(|e| format!("{e} at {}", e.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{url}: {errors:?}");
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen} answers were compared");
    assert!(!server.json("/api/v1/transitions?since=100d")["transitions"].as_array().unwrap().is_empty());
    let without = Server::start(&[]);
    let (status, body) = without.get("/api/v1/transitions");
    assert_eq!(status, 501);
    assert!(schema(&document, "/api/v1/transitions", "501").is_valid(&serde_json::from_str(&body).unwrap()), "{body}");

    let (status, body) = server.get("/api/v1/objects/configmaps/none/none");
    assert_eq!(status, 404);
    let path = "/api/v1/objects/{resource}/{namespace}/{name}";
    assert!(schema(&document, path, "404").is_valid(&serde_json::from_str(&body).unwrap()), "{body}");
    // Verifies that the check can fail.
    assert!(!schema(&document, "/api/v1/wars", "200").is_valid(&json!({"wars": [{"state": "angry"}]})));
}

#[test]
fn the_openapi_document_describes_every_path() {
    let server = Server::start(&[]);
    let document = server.json("/openapi.json");
    let (_, hint) = server.get("/api/v1/nothing");
    assert!(hint.contains("/openapi.json"), "{hint}");
    for path in ["/api/v1/wars", "/api/v1/participants", "/api/v1/writes", "/api/v1/transitions"] {
        assert!(document["paths"][path]["get"]["summary"].is_string(), "{path}");
    }
    for (view, parameters) in [("", 5), ("/participants", 5), ("/timeline", 5), ("/decision", 5)] {
        let path = format!("/api/v1/objects/{{resource}}/{{namespace}}/{{name}}{view}");
        assert_eq!(document["paths"][&path]["get"]["parameters"].as_array().map(Vec::len), Some(parameters), "{path}");
    }
    let described = &document["components"]["schemas"]["War"]["properties"]["retakes"]["description"];
    assert_eq!(described, "Number of retakes.");
}
