//! The table of all routes of the admin listener ([`ROUTES`]), and the lookup of a request in it. To add a route, add a
//! row. [`super::route`] defines what a row consists of.

use std::sync::LazyLock;

use hyper::Method;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::decision::{self, Decision};
use super::enforcement::{self, Switched};
use super::objects::{self, Sides, Timeline};
use super::reply::json;
use super::route::{Access, Call, Handler, Operation, Parameter, ParameterKind, Route};
use super::views::{ActorWrites, Overview, Participants, Report, Sources, Transitions};
use super::{health, log_level, openapi, overview, sources, ui, watch};
use crate::auth::Right;
use crate::net::Reply;

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/",
        access: Access::PublicInPart(Right::Read),
        handler: Handler::Computed(ui::index),
        parameters: &[],
        operation: None,
    },
    page("/page.js", |_| ui::script()),
    page("/page.css", |_| ui::style()),
    Route {
        method: Method::GET,
        path: "/livez",
        access: Access::Public,
        handler: Handler::Immediate(health::livez),
        parameters: &[],
        operation: None,
    },
    Route {
        method: Method::GET,
        path: "/readyz",
        access: Access::PublicWithoutQuery(Right::Read),
        handler: Handler::Immediate(health::readyz),
        parameters: &[],
        operation: None,
    },
    Route {
        method: Method::GET,
        path: "/metrics",
        access: Access::Needs(Right::Metrics),
        handler: Handler::Computed(health::metrics),
        parameters: &[],
        operation: None,
    },
    Route {
        method: Method::GET,
        path: "/openapi.json",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(|_| Ok(json(&openapi::document(ROUTES)))),
        parameters: &[],
        operation: None,
    },
    Route {
        method: Method::GET,
        path: "/log-level",
        access: Access::Needs(Right::Read),
        handler: Handler::Immediate(log_level::show),
        parameters: &[],
        operation: None,
    },
    Route {
        method: Method::PUT,
        path: "/log-level",
        access: Access::Needs(Right::Admin),
        handler: Handler::Immediate(log_level::change),
        parameters: &[text("level", "error, warn, info, debug, trace, or such as info,editwar::ingest=debug.")],
        operation: Some(Operation {
            id: "log-level",
            summary: "Change what is logged.",
            schema: None,
            errors: &[("400", "Unknown log level."), ("403", "Only local clients may change the log level.")],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/wars",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::wars),
        parameters: &[
            NAMESPACE,
            KIND,
            NAME,
            CLUSTER,
            text("actor", "Only wars with a party whose name contains this."),
            text("class", "Only wars with a party of this class or role, such as gitops or argo_cd."),
            text("state", "Only wars in this state, or ongoing, ended or undecided."),
            text("confidence", "Only wars of at least this confidence: possible, probable or confirmed."),
            text("cause", "Only wars with this cause, such as manual_edits."),
            text(
                "since",
                "Only wars with a retake at or after this time (RFC 3339), or this long before now, such as 1h.",
            ),
            flag("all", "Include objects that were contested but never thrashed."),
            CONTEXT,
            LIMIT,
        ],
        operation: Some(Operation {
            id: "wars",
            summary: "List the wars, the worst first, and hot loops, contention and flapping admission.",
            schema: Some(schema::<Report>),
            errors: &[UNKNOWN],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/participants",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::find),
        parameters: &[
            text("kind", "Kind of the object, in any form that kubectl accepts."),
            text("name", "Name of the object."),
            text("namespace", "Namespace of the object."),
            text("cluster", "Cluster of the object."),
            CONTEXT,
            SINCE,
        ],
        operation: Some(Operation {
            id: "find",
            summary: "Find an object by kind and name, and show its writers.",
            schema: Some(schema::<Participants>),
            errors: &[UNKNOWN, ("404", "No object matches, or several do.")],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/writes",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::writes),
        parameters: &[
            text("actor", "Only writes of actors whose names contain this. Required."),
            flag("exact", "Only the actor of exactly this name."),
            NAMESPACE,
            KIND,
            NAME,
            CLUSTER,
            LIMIT,
        ],
        operation: Some(Operation {
            id: "writes",
            summary: "List the objects that an actor wrote, and its writes to contested objects.",
            schema: Some(schema::<ActorWrites>),
            errors: &[("400", "Unknown parameter, or no actor.")],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/overview",
        access: Access::Needs(Right::Read),
        handler: Handler::Watchable(overview::show, overview::stream),
        parameters: &[flag("watch", "Keep the response open and send a line for each change.")],
        operation: Some(Operation {
            id: "overview",
            summary: "List all findings in short, at most 5,000 objects. With watch=true, stream lines of JSON: all rows, \
                      then changes at most once a second, and an empty change every 10 s.",
            schema: Some(schema::<Overview>),
            errors: &[],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/sources",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(sources::show),
        parameters: &[],
        operation: Some(Operation {
            id: "sources",
            summary: "Show which sources deliver events, how late, with which gaps, and of which kinds of objects the \
                      fields are known.",
            schema: Some(schema::<Sources>),
            errors: &[],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/transitions",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::transitions),
        parameters: &[SINCE, NAMESPACE, KIND, NAME, CLUSTER],
        operation: Some(Operation {
            id: "transitions",
            summary: "List past changes of verdicts from the journal, by default of the last day.",
            schema: Some(schema::<Transitions>),
            errors: &[
                UNKNOWN,
                ("501", "The server has no journal."),
                ("503", "The journal cannot be read at the moment."),
            ],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/objects/{resource}/{namespace}/{name}",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::object),
        parameters: OBJECT,
        operation: Some(Operation {
            id: "object",
            summary: "Show the writers, the wars and the writes of one object.",
            schema: Some(schema::<Participants>),
            errors: &[UNSEEN],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/objects/{resource}/{namespace}/{name}/participants",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::participants),
        parameters: OBJECT,
        operation: Some(Operation {
            id: "participants",
            summary: "Show the parties and the other writers of one object.",
            schema: Some(schema::<Sides>),
            errors: &[UNSEEN],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/objects/{resource}/{namespace}/{name}/timeline",
        access: Access::Needs(Right::Read),
        handler: Handler::Computed(objects::timeline),
        parameters: OBJECT,
        operation: Some(Operation {
            id: "timeline",
            summary: "Show the writes to one object, in order.",
            schema: Some(schema::<Timeline>),
            errors: &[UNSEEN],
        }),
    },
    Route {
        method: Method::GET,
        path: "/api/v1/objects/{resource}/{namespace}/{name}/decision",
        access: Access::Needs(Right::Read),
        handler: Handler::Watchable(decision::show, watch::stream),
        parameters: &[
            RESOURCE,
            OBJECT_NAMESPACE,
            OBJECT_NAME,
            OBJECT_CLUSTER,
            flag("watch", "Keep the response open and send a line for each change."),
        ],
        operation: Some(Operation {
            id: "decision",
            summary: "Decide whether a reconciler may write this object now. With watch=true, stream a line of JSON \
                      now, at every change, and every 30 s.",
            schema: Some(schema::<Decision>),
            errors: &[],
        }),
    },
    Route {
        method: Method::POST,
        path: "/api/v1/enforcement/stop",
        access: Access::Needs(Right::Admin),
        handler: Handler::Computed(enforcement::stop),
        parameters: &[],
        operation: Some(Operation {
            id: "stop",
            summary: "Turn the kill switch on: lift all pauses and stop all other writes. Waits up to 5 s, then lists \
                      the pauses that are not lifted yet.",
            schema: Some(schema::<Switched>),
            errors: SWITCH_ERRORS,
        }),
    },
    Route {
        method: Method::POST,
        path: "/api/v1/enforcement/start",
        access: Access::Needs(Right::Admin),
        handler: Handler::Computed(enforcement::start),
        parameters: &[],
        operation: Some(Operation {
            id: "start",
            summary: "Turn the kill switch off.",
            schema: Some(schema::<Switched>),
            errors: SWITCH_ERRORS,
        }),
    },
];

const LIMIT: Parameter = Parameter {
    name: "limit",
    description: "Maximum number of objects: the most urgent ones, or those written last.",
    kind: ParameterKind::Limit,
};
const NAMESPACE: Parameter = text("namespace", "Only this namespace.");
const KIND: Parameter = text("kind", "Only this kind, in any form that kubectl accepts.");
const NAME: Parameter = text("name", "Only this name.");
const CLUSTER: Parameter = text("cluster", "Only this cluster.");
const CONTEXT: Parameter = text(
    "context",
    "Context in your kubeconfig for the cluster without a name, which the commands of remedies then use.",
);
const SINCE: Parameter = text(
    "since",
    "Answer from the journal, starting at this time (RFC 3339) or this long before the latest event, such as 7d.",
);
const RESOURCE: Parameter =
    segment("resource", "RESOURCE.GROUP, such as deployments.apps, or RESOURCE in the core group.");
const OBJECT_NAMESPACE: Parameter = segment("namespace", "Namespace of the object, or - for cluster-scoped objects.");
const OBJECT_NAME: Parameter = segment("name", "Name of the object.");
const OBJECT_CLUSTER: Parameter = text("cluster", "Cluster of the object, if the server watches several.");
const OBJECT: &[Parameter] = &[RESOURCE, OBJECT_NAMESPACE, OBJECT_NAME, OBJECT_CLUSTER, SINCE];
const UNKNOWN: (&str, &str) = ("400", "Unknown parameter.");
const UNSEEN: (&str, &str) = ("404", "editwar has seen no write to this object.");
const SWITCH_ERRORS: &[(&str, &str)] =
    &[("404", "The server has no enforcer."), ("415", "The content is not application/json.")];

/// The routes by path. Several methods may share a path.
static ROUTER: LazyLock<matchit::Router<Vec<&'static Route>>> = LazyLock::new(|| {
    let mut by_path: Vec<(&str, Vec<&Route>)> = Vec::new();
    for route in ROUTES {
        match by_path.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((route.path, vec![route])),
        }
    }
    let mut router = matchit::Router::new();
    for (path, routes) in by_path {
        router.insert(path, routes).expect("the paths do not conflict");
    }
    router
});

/// The route of a request.
pub(crate) enum Found<'a> {
    /// The route, and the segments of the path that it names.
    Route(&'static Route, matchit::Params<'static, 'a>),
    /// The path exists, but only with these methods.
    OtherMethods(Vec<&'static Method>),
    /// There is no such path.
    None,
}

/// Finds the route of a request.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let Ok(matched) = ROUTER.at(path) else { return Found::None };
    match matched.value.iter().find(|route| route.method == method) {
        Some(route) => Found::Route(route, matched.params),
        None => Found::OtherMethods(matched.value.iter().map(|route| &route.method).collect()),
    }
}

// === impl Found ===

impl Found<'_> {
    /// Returns the right that a request needs, or `None` if it is public. A request without a route needs a right as
    /// well, so that unauthenticated clients do not learn which paths exist.
    pub(crate) fn right(&self, method: &Method, has_query: bool) -> Option<Right> {
        match self {
            Found::Route(route, _) => route.right(has_query),
            Found::OtherMethods(_) | Found::None if method.is_safe() => Some(Right::Read),
            Found::OtherMethods(_) | Found::None => Some(Right::Admin),
        }
    }

    /// Returns the right with which a client gets more than other clients from a public route.
    pub(crate) fn right_to_more(&self) -> Option<Right> {
        match self {
            Found::Route(route, _) => route.right_to_more(),
            Found::OtherMethods(_) | Found::None => None,
        }
    }
}

/// Returns the route of a file of the page.
const fn page(path: &'static str, handler: fn(&Call<'_>) -> Reply) -> Route {
    let handler = Handler::Immediate(handler);
    Route { method: Method::GET, path, access: Access::Public, handler, parameters: &[], operation: None }
}

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description, kind: ParameterKind::Text }
}

const fn flag(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description, kind: ParameterKind::Flag }
}

const fn segment(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description, kind: ParameterKind::Segment }
}

fn schema<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}
