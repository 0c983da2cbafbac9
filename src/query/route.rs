//! The types of routes: [`Route`] declares everything about one route (method, path, right, parameters, handler and
//! description), and [`Call`] is a request to it. The table of all routes is [`super::routes::ROUTES`].

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use schemars::SchemaGenerator;
use serde_json::Value;

use super::api::Api;
use super::reply::{Answer, Failure};
use super::views::{Filter, WarFilter, variant};
use crate::auth::Right;
use crate::detect::remedy::Contexts;
use crate::detect::write::ObjectName;
use crate::net::Reply;
use crate::pipeline::key::ObjectKey;

/// Number of objects in a report, by default and at most. Each takes some kilobytes.
pub(super) const OBJECTS_SHOWN: usize = 1_000;
pub(super) const OBJECTS_SHOWN_MAX: usize = 5_000;

/// One method of one path.
pub(crate) struct Route {
    /// The method. GET includes HEAD.
    pub(super) method: Method,
    /// The path. `{name}` stands for one segment.
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) handler: Handler,
    /// The parameters of the route. Others are rejected, unless the route has none.
    pub(super) parameters: &'static [Parameter],
    /// The description in the OpenAPI document.
    pub(super) operation: Option<Operation>,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Every client.
    Public,
    /// Every client. Clients that have the right get more.
    PublicInPart(Right),
    /// Every client, but only without a query string. With one, clients that have the right.
    PublicWithoutQuery(Right),
    /// Clients that have the right.
    Needs(Right),
}

/// How a route answers.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// In a few microseconds.
    Immediate(fn(&Call<'_>) -> Reply),
    /// After some computation, for which the number of concurrent requests is limited.
    Computed(fn(&Call<'_>) -> Result<Reply, Failure>),
    /// Like `Computed`, or with a stream if the parameter `watch` is set.
    Watchable(fn(&Call<'_>) -> Result<Reply, Failure>, fn(&Call<'_>) -> hyper::Response<Answer>),
}

/// A parameter of a path or a query string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: ParameterKind,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterKind {
    /// A segment of the path.
    Segment,
    Text,
    Flag,
    /// The maximum number of objects in a report.
    Limit,
}

/// The description of a route in the OpenAPI document.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// Returns the schema of the answer, or `None` if it is text.
    pub(super) schema: Option<fn(&mut SchemaGenerator) -> Value>,
    /// Statuses of error responses, and what they mean.
    pub(super) errors: &'static [(&'static str, &'static str)],
}

/// A request to a route.
pub(super) struct Call<'a> {
    pub(super) api: &'a Api,
    pub(super) client: IpAddr,
    /// Whether the client has been admitted. Always true if the route is not public.
    pub(super) is_admitted: bool,
    pub(super) headers: &'a HeaderMap,
    segments: matchit::Params<'static, 'a>,
    pub(super) parameters: Parameters<'a>,
}

/// The parameters of a query string.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

// === impl Route ===

impl Route {
    /// Returns the right that a request needs, or `None` if the route is public.
    pub(crate) fn right(&self, has_query: bool) -> Option<Right> {
        match self.access {
            Access::Public | Access::PublicInPart(_) => None,
            Access::PublicWithoutQuery(right) => has_query.then_some(right),
            Access::Needs(right) => Some(right),
        }
    }

    /// Returns the right with which a client gets more than other clients from a public route.
    pub(super) fn right_to_more(&self) -> Option<Right> {
        match self.access {
            Access::PublicInPart(right) => Some(right),
            _ => None,
        }
    }

    /// Returns whether the answer to a request with this query string is a stream.
    pub(crate) fn is_stream(&self, query: &str) -> bool {
        matches!(self.handler, Handler::Watchable(..)) && Parameters::of(query).is_set("watch")
    }

    /// Returns whether the answer takes so little time that it needs no permit.
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self.handler, Handler::Immediate(_))
    }

    /// Returns an error if a query string has a parameter that this route does not know.
    pub(super) fn check(&self, parameters: &Parameters<'_>) -> Result<(), Failure> {
        let known = || self.parameters.iter().filter(|known| known.kind != ParameterKind::Segment);
        let is_unknown = |name: &str| known().all(|known| known.name != name);
        match parameters.0.iter().find(|(name, _)| is_unknown(name)) {
            Some((name, _)) if !self.parameters.is_empty() => {
                let known: Vec<&str> = known().map(|known| known.name).collect();
                let error = format!("unknown parameter `{name}`: expected {}", known.join(", "));
                Err(Failure::new(StatusCode::BAD_REQUEST, error))
            }
            _ => Ok(()),
        }
    }
}

// === impl Call ===

impl<'a> Call<'a> {
    pub(super) fn new(
        api: &'a Api,
        (client, is_admitted): (IpAddr, bool),
        headers: &'a HeaderMap,
        segments: matchit::Params<'static, 'a>,
        query: &'a str,
    ) -> Call<'a> {
        Call { api, client, is_admitted, headers, segments, parameters: Parameters::of(query) }
    }

    /// Returns the contexts in the user's kubeconfig. The parameter `context` is that of the cluster without a name.
    pub(super) fn contexts(&self) -> Cow<'a, Contexts> {
        let mut contexts = Cow::Borrowed(self.api.contexts());
        if let Some(context) = self.parameters.get("context") {
            contexts.to_mut().0.insert(String::new(), context.to_owned());
        }
        contexts
    }

    /// Returns the object that the path names.
    pub(super) fn object(&self) -> ObjectKey {
        let segment = |name| {
            let text = self.segments.get(name).unwrap_or_default();
            percent_decode_str(text).decode_utf8_lossy()
        };
        let (resource, namespace, name) = (segment("resource"), segment("namespace"), segment("name"));
        let (resource, group) = resource.split_once('.').unwrap_or((&resource, ""));
        let namespace = if namespace == "-" { "" } else { &namespace };
        let cluster = self.parameters.get("cluster").unwrap_or_default();
        ObjectKey::new(cluster, &ObjectName { group, resource, namespace, name: &name })
    }
}

// === impl Parameters ===

impl<'a> Parameters<'a> {
    pub(super) fn of(query: &'a str) -> Parameters<'a> {
        Parameters(form_urlencoded::parse(query.as_bytes()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// Returns whether a flag is set: `?all`, `?all=1` or `?all=true`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("" | "1" | "true"))
    }

    /// Returns the filter for a report.
    pub(super) fn filter(&self) -> Result<Filter, Failure> {
        let text = |name| self.get(name).map(str::to_owned);
        let limit = match self.get("limit").map(str::parse) {
            None => OBJECTS_SHOWN,
            Some(Ok(limit @ 1..=OBJECTS_SHOWN_MAX)) => limit,
            Some(_) => {
                let error = format!("`limit` must be a number from 1 to {OBJECTS_SHOWN_MAX}");
                return Err(Failure::new(StatusCode::BAD_REQUEST, error));
            }
        };
        Ok(Filter {
            namespace: text("namespace"),
            kind: text("kind"),
            name: text("name"),
            cluster: text("cluster"),
            actor: text("actor"),
            is_exact: self.is_set("exact"),
            all: self.is_set("all"),
            war: WarFilter {
                class: self.parsed("class", str::parse)?,
                state: self.parsed("state", str::parse)?,
                confidence: self.parsed("confidence", variant)?,
                cause: self.parsed("cause", variant)?,
                since: None,
            },
            limit: Some(limit),
            ..Filter::default()
        })
    }

    /// Returns a parameter that must be one of several words.
    fn parsed<'p, T>(&'p self, name: &str, parse: fn(&'p str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let parsed = self.get(name).map(parse).transpose();
        parsed.map_err(|why| Failure::new(StatusCode::BAD_REQUEST, format!("`{name}`: {why}")))
    }
}
