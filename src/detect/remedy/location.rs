//! The location of a field, in the notations of the tools that can leave it out.

use serde_json::Value;

use crate::detect::fields::{Fields, part_of};
use crate::detect::write::Part;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A key of a map.
    Key(String),
    /// The item of a list with these keys and values.
    Item(Vec<(String, String)>),
    /// The item at an index of a list whose keys are not known.
    Index(usize),
    /// The item of a set that equals this text.
    Member(String),
}

/// The location of a field.
pub(super) struct Location {
    path: String,
    /// Empty for what is not a field, such as `(main)`.
    steps: Vec<Step>,
    /// The end of each step in the path.
    ends: Vec<usize>,
}

// === impl Location ===

impl Location {
    /// Parses a path in editwar's notation.
    pub(super) fn of(path: &str) -> Location {
        let found = if path.starts_with('(') { None } else { steps(path) };
        let (steps, ends) = found.unwrap_or_default().into_iter().unzip();
        Location { path: path.to_owned(), steps, ends }
    }

    /// Returns the keys up to the first list, and whether there is a list.
    fn keys(&self) -> (Vec<&str>, bool) {
        let key = |step: &'_ Step| matches!(step, Step::Key(_));
        let keys = self.steps.iter().take_while(|step| key(step)).filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            _ => None,
        });
        let keys: Vec<&str> = keys.collect();
        let is_list = keys.len() < self.steps.len();
        (keys, is_list)
    }

    /// Returns the JSON Pointer. An item of a list has none, since its index may change.
    pub(super) fn pointer(&self) -> Option<String> {
        let (keys, is_list) = self.keys();
        (!is_list && !keys.is_empty()).then(|| keys.iter().map(|key| token(key)).collect())
    }

    /// Returns the JSON Pointer with the indices that items of lists have in this state of the object.
    pub(super) fn pointer_in(&self, fields: &Fields) -> Option<String> {
        let mut pointer = String::new();
        let mut start = 0;
        for (step, end) in self.steps.iter().zip(&self.ends) {
            match step {
                Step::Key(key) => pointer.push_str(&token(key)),
                Step::Item(_) => {
                    let index = fields.index_of(&self.path[..start], &self.path[start..*end])?;
                    pointer.push_str(&format!("/{index}"));
                }
                Step::Index(index) => pointer.push_str(&format!("/{index}")),
                Step::Member(_) => return None,
            }
            start = *end;
        }
        Some(pointer).filter(|pointer| !pointer.is_empty())
    }

    /// Returns the keys, joined by dots. An item of a list has the path of its list.
    pub(super) fn dotted(&self) -> Option<String> {
        let (keys, _) = self.keys();
        let is_plain = |key: &&str| !key.is_empty() && !key.contains(['.', ',', '=', ' ', '/']);
        (!keys.is_empty() && keys.iter().all(is_plain)).then(|| keys.join("."))
    }

    /// Returns what a notation that cannot select items of lists refers to: the field, or the whole list.
    pub(super) fn reach(&self) -> String {
        match (self.keys(), self.dotted()) {
            ((_, true), Some(list)) => format!("all of {list}"),
            _ => self.path.clone(),
        }
    }

    /// Returns a jq expression that selects the field.
    pub(super) fn jq(&self) -> Option<String> {
        if self.steps.is_empty() {
            return None;
        }
        let mut out = String::new();
        let mut is_start = true;
        for step in &self.steps {
            match step {
                Step::Key(key) if is_identifier(key) => out.push_str(&format!(".{key}")),
                Step::Key(key) => out.push_str(&format!("{}[{}]", if is_start { "." } else { "" }, text(key))),
                Step::Item(keys) => {
                    let is = |(name, value): &(String, String)| {
                        let key = name;
                        let key = if is_identifier(key) { format!(".{key}") } else { format!(".[{}]", text(key)) };
                        let key = if name == "protocol" { format!("{key} // \"TCP\"") } else { key };
                        format!("({key} | tostring) == {}", text(value))
                    };
                    let conditions: Vec<String> = keys.iter().map(is).collect();
                    out.push_str(&format!("[] | select({}) | ", conditions.join(" and ")));
                }
                Step::Index(index) => out.push_str(&format!("[{index}]")),
                Step::Member(item) => out.push_str(&format!("[] | select(. == {})", text(item))),
            }
            // After a pipe, an expression starts anew.
            is_start = out.ends_with(' ');
        }
        Some(out.strip_suffix(" | ").unwrap_or(&out).to_owned())
    }

    /// Returns a CEL expression whose value is that of the field in `root`, or one that says that it is absent.
    pub(super) fn cel(&self, root: &str) -> Option<String> {
        if self.steps.is_empty() {
            return None;
        }
        Some(cel(root.to_owned(), &self.steps, 0))
    }

    /// Returns what Terraform calls the field in a resource of its provider for Kubernetes, such as
    /// `spec[0].replicas`.
    pub(super) fn terraform(&self) -> Option<String> {
        let (keys, is_list) = self.keys();
        let (last, parents) = keys.split_last()?;
        if is_list {
            return None;
        }
        let mut out = String::new();
        for (index, key) in parents.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "." });
            out.push_str(&snake_case(key));
            // Maps are attributes; all other objects are blocks.
            if !MAPS.contains(key) {
                out.push_str("[0]");
            }
        }
        let is_in_map = parents.last().is_some_and(|key| MAPS.contains(key));
        if is_in_map {
            out.push_str(&format!("[{}]", text(last)));
        } else {
            out.push_str(&format!("{}{}", if parents.is_empty() { "" } else { "." }, snake_case(last)));
        }
        Some(out)
    }

    /// Whether a scale subresource also sets the field.
    pub(super) fn is_replicas(&self) -> bool {
        self.path == "spec.replicas"
    }

    /// Whether the field is part of the status.
    pub(super) fn is_status(&self) -> bool {
        part_of(&self.path) == Part::Status
    }
}

/// Words that are not identifiers in CEL. Source: the language definition of CEL, and Kubernetes for `namespace`.
const CEL_RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];
/// Maps of text, which Terraform has as attributes.
const MAPS: &[&str] = &["annotations", "labels", "data", "matchLabels", "nodeSelector"];

fn is_identifier(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns a key as a part of a JSON Pointer.
fn token(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn snake_case(key: &str) -> String {
    let mut out = String::new();
    for c in key.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Selects steps with optional values, so that an absent field is a value like any other.
fn cel(mut root: String, steps: &[Step], depth: usize) -> String {
    for (index, step) in steps.iter().enumerate() {
        let item = format!("i{depth}");
        let rest = &steps[index + 1..];
        match step {
            Step::Key(key) if is_identifier(key) && !CEL_RESERVED.contains(&key.as_str()) => {
                root.push_str(&format!(".?{key}"));
            }
            Step::Key(key) => root.push_str(&format!("[?{}]", text(key))),
            Step::Item(keys) => {
                let is = |(key, value): &(String, String)| {
                    let default = if key == "protocol" { "TCP" } else { "" };
                    format!("string({item}[?{}].orValue({})) == {}", text(key), text(default), text(value))
                };
                let conditions: Vec<String> = keys.iter().map(is).collect();
                let found = format!("{root}.orValue([]).filter({item}, {})", conditions.join(" && "));
                return match rest {
                    [] => found,
                    rest => format!("{found}.map({item}, {})", cel(item.clone(), rest, depth + 1)),
                };
            }
            Step::Index(index) => root.push_str(&format!("[?{index}]")),
            Step::Member(member) => return format!("{} in {root}.orValue([])", text(member)),
        }
    }
    root
}

/// Parses a path, or returns `None` if it is not one. Returns each step with its end in the path.
fn steps(path: &str) -> Option<Vec<(Step, usize)>> {
    let mut steps: Vec<(Step, usize)> = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let is_set = matches!(steps.last(), Some((Step::Key(key), _)) if key == "finalizers");
        if let Some(quoted) = rest.strip_prefix("['") {
            let end = quoted_end(quoted)?;
            let key = unescaped(&quoted[..end]);
            rest = &quoted[end + 2..];
            steps.push((if is_set { Step::Member(key) } else { Step::Key(key) }, path.len() - rest.len()));
        } else if let Some(selector) = rest.strip_prefix('[') {
            let (step, end) = item(selector)?;
            let step = match step {
                Step::Member(text) if !is_set => Step::Index(text.parse().ok()?),
                step => step,
            };
            rest = &selector[end..];
            steps.push((step, path.len() - rest.len()));
        } else {
            let plain = rest.strip_prefix('.').unwrap_or(rest);
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            rest = &plain[end..];
            steps.push((Step::Key(plain[..end].to_owned()), path.len() - rest.len()));
        }
    }
    Some(steps)
}

/// Parses `name=web,port=80]`, or the item of a set. Returns it with the number of bytes.
fn item(selector: &str) -> Option<(Step, usize)> {
    let mut keys = Vec::new();
    let mut at = 0;
    loop {
        let rest = &selector[at..];
        let end = rest.find(['=', ']'])?;
        if rest[end..].starts_with(']') {
            return (at == 0).then(|| (Step::Member(rest[..end].to_owned()), end + 1));
        }
        let key = rest[..end].to_owned();
        at += end + 1;
        let rest = &selector[at..];
        let (value, length) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (unescaped(&quoted[..end]), end + 2)
            }
            None => {
                let end = rest.find([',', ']'])?;
                (rest[..end].to_owned(), end)
            }
        };
        keys.push((key, value));
        at += length;
        match selector.as_bytes().get(at)? {
            b']' => return Some((Step::Item(keys), at + 1)),
            b',' => at += 1,
            _ => return None,
        }
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\'", "'").replace("\\\\", "\\")
}

/// Returns the end of a key that is quoted as `['…']`.
pub(super) fn quoted_end(text: &str) -> Option<usize> {
    closing_quote(text).filter(|end| text.as_bytes().get(end + 1) == Some(&b']'))
}

/// Returns the position of the quote that ends a quoted text.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' => return Some(at),
            _ => at += 1,
        }
    }
    None
}
