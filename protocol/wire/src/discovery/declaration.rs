//! What a route says of itself.

use crate::ResourceInfo;
use core::fmt;
use serde_json::{Map, Value, json};
use tallybook_rules::Rejection;

/// The largest declaration that is sent, in bytes of JSON: it stands in a 402's header, and clients send it back.
pub const MAX_DECLARED_BYTES: usize = 3_072;
/// The most tags of a service.
pub const MAX_TAGS: usize = 5;
/// The longest name of a service, and the longest tag, in characters.
const MAX_LABEL_CHARS: usize = 32;
/// The longest template of a path, in characters.
const MAX_TEMPLATE_CHARS: usize = 512;
/// How often a template is decoded to see what is in it.
const MAX_DECODINGS: usize = 5;

/// How a route is called, what it answers, and what service it belongs to: what a 402 says in the extension `bazaar`, so that
/// facilitators can list the route once it was paid for, and agents can find and call it.
///
/// ```
/// use serde_json::json;
/// use tallybook_wire::Discoverable;
///
/// let weather = Discoverable::by_query(json!({ "city": "Lisbon" }))
///     .input_schema(json!({ "properties": { "city": { "type": "string" } }, "required": ["city"] }))
///     .output(json!({ "celsius": 21 }))
///     .service("Example Weather")
///     .tags(["weather", "forecast"]);
/// assert!(weather.check().is_ok());
/// ```
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct Discoverable {
    input: Input,
    input_schema: Option<Value>,
    output: Option<Value>,
    output_schema: Option<Value>,
    template: Option<String>,
    service_name: Option<String>,
    tags: Vec<String>,
    icon_url: Option<String>,
    mime_type: Option<String>,
}

/// How it is called, with an example.
#[derive(Clone, PartialEq, Debug)]
enum Input {
    Query(Value),
    Body(BodyType, Value),
    Tool { name: String, example: Option<Value> },
}

/// What a request's body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyType {
    /// JSON.
    Json,
    /// A form.
    FormData,
    /// Text.
    Text,
}

impl BodyType {
    /// As x402 writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::FormData => "form-data",
            Self::Text => "text",
        }
    }
}

impl Discoverable {
    /// A route that is called by GET, HEAD or DELETE, with an example of its query: `{"city": "Lisbon"}`, or `{}`.
    pub const fn by_query(example: Value) -> Self {
        Self::of(Input::Query(example))
    }

    /// A route that is called by POST, PUT or PATCH, with an example of its body.
    pub const fn by_body(body: BodyType, example: Value) -> Self {
        Self::of(Input::Body(body, example))
    }

    /// A tool of an MCP server, with the schema of its arguments as the tool itself declares it.
    pub fn tool(name: impl Into<String>, input_schema: Value) -> Self {
        Self::of(Input::Tool { name: name.into(), example: None }).input_schema(input_schema)
    }

    const fn of(input: Input) -> Self {
        Self {
            input,
            input_schema: None,
            output: None,
            output_schema: None,
            template: None,
            service_name: None,
            tags: Vec::new(),
            icon_url: None,
            mime_type: None,
        }
    }

    /// An example of a tool's arguments.
    pub fn example(mut self, arguments: Value) -> Self {
        if let Input::Tool { example, .. } = &mut self.input {
            *example = Some(arguments);
        }
        self
    }

    /// The JSON Schema (draft 2020-12) of the query or the body.
    pub fn input_schema(mut self, schema: Value) -> Self {
        self.input_schema = Some(schema);
        self
    }

    /// An example of an answer.
    pub fn output(mut self, example: Value) -> Self {
        self.output = Some(example);
        self
    }

    /// The JSON Schema of an answer; it stands beside the example, and is not sent without one.
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.output_schema = Some(schema);
        self
    }

    /// The path of a route with parts that vary, `/users/:userId`: all of them are one entry of a catalogue. From the root of
    /// the server's public address.
    pub fn path(mut self, template: impl Into<String>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// The name of the service: up to 32 printable characters of ASCII.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// What it is about: up to five tags, each of up to 32 printable characters of ASCII.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// The http(s) URL of a picture.
    pub fn icon(mut self, url: impl Into<String>) -> Self {
        self.icon_url = Some(url.into());
        self
    }

    /// The media type of answers: `application/json`.
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// Refuses what catalogues would leave out or refuse: [`Rejection::MalformedPayload`] for a name, tag, path or tool that is
    /// none, [`Rejection::RequestTooLarge`] above [`MAX_DECLARED_BYTES`].
    pub fn check(&self) -> Result<(), Rejection> {
        let labels = self.service_name.iter().chain(&self.tags);
        let named = match &self.input {
            Input::Tool { name, .. } => !name.is_empty(),
            Input::Query(_) | Input::Body(..) => true,
        };
        let is_sound = labels.into_iter().all(|label| is_label(label))
            && self.tags.len() <= MAX_TAGS
            && self.template.as_ref().is_none_or(|template| is_route_template(template))
            && named;
        if !is_sound {
            return Err(Rejection::MalformedPayload);
        }
        let path = self.template.as_deref().unwrap_or("/");
        let size = |method| self.extension(method, path).map_or(0, |extension| extension.to_string().len());
        if ["DELETE", "PATCH"].into_iter().map(size).any(|size| size > MAX_DECLARED_BYTES) {
            return Err(Rejection::RequestTooLarge);
        }
        Ok(())
    }

    /// Adds the service to what a 402 says is sold.
    pub fn describe(&self, resource: &mut ResourceInfo) {
        if let Some(mime_type) = &self.mime_type {
            resource.mime_type = Some(mime_type.clone());
        }
        let mut add =
            |name: &str, value: Option<Value>| value.map(|value| resource.other.insert(name.to_owned(), value));
        add("serviceName", self.service_name.as_deref().map(Value::from));
        add("tags", Some(&self.tags).filter(|tags| !tags.is_empty()).map(|tags| json!(tags)));
        add("iconUrl", self.icon_url.as_deref().map(Value::from));
    }

    /// The extension as it stands in the 402 for a request by `method` to `path`; none for a method by which the route is not
    /// called.
    pub fn extension(&self, method: &str, path: &str) -> Option<Value> {
        let Call { mut input, mut properties, required } = self.call_by(method)?;
        if let Some(values) = self.template.as_ref().and_then(|template| parameters(template, path)) {
            let names: Map<String, Value> = values.keys().map(|name| (name.clone(), text())).collect();
            properties.insert("pathParams".to_owned(), json!({"type": "object", "properties": names}));
            input.insert("pathParams".to_owned(), Value::Object(values));
        }
        let of_input = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        });
        let (mut info, mut members) = (object(json!({ "input": input })), object(json!({ "input": of_input })));
        if let Some(example) = &self.output {
            info.insert("output".to_owned(), json!({"type": "json", "example": example}));
            let of_example = self.output_schema.clone().unwrap_or_else(|| json!({}));
            let properties = json!({"type": text(), "example": of_example});
            members
                .insert("output".to_owned(), json!({"type": "object", "properties": properties, "required": ["type"]}));
        }
        let mut extension = object(json!({
            "info": info,
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": members,
                "required": ["input"],
            },
        }));
        if let Some(template) = &self.template {
            extension.insert("routeTemplate".to_owned(), Value::from(template.as_str()));
        }
        Some(Value::Object(extension))
    }

    /// How it is called by a method, if it is.
    fn call_by(&self, method: &str) -> Option<Call> {
        let of_http = json!({"type": "string", "const": "http"});
        let of_method = json!({"type": "string", "enum": [method]});
        let (input, properties, required) = match &self.input {
            Input::Query(example) if ["GET", "HEAD", "DELETE"].contains(&method) => {
                let mut query = object(self.input_schema.clone().unwrap_or_default());
                query.insert("type".to_owned(), Value::from("object"));
                (
                    json!({"type": "http", "method": method, "queryParams": example}),
                    json!({"type": of_http, "method": of_method, "queryParams": query}),
                    vec!["type", "method"],
                )
            }
            Input::Body(body, example) if ["POST", "PUT", "PATCH"].contains(&method) => (
                json!({"type": "http", "method": method, "bodyType": body.name(), "body": example}),
                json!({
                    "type": of_http,
                    "method": of_method,
                    "bodyType": {"type": "string", "enum": [body.name()]},
                    "body": self.input_schema.clone().unwrap_or_else(|| json!({})),
                }),
                vec!["type", "method", "bodyType", "body"],
            ),
            Input::Tool { name, example } => {
                let arguments = self.input_schema.clone().unwrap_or_else(|| json!({"type": "object"}));
                let mut input = json!({"type": "mcp", "toolName": name, "inputSchema": arguments});
                if let (Some(input), Some(example)) = (input.as_object_mut(), example) {
                    input.insert("example".to_owned(), example.clone());
                }
                let of_type = json!({"type": "string", "const": "mcp"});
                let (of_schema, of_example) = (json!({"type": "object"}), json!({"type": "object"}));
                let properties =
                    json!({"type": of_type, "toolName": text(), "inputSchema": of_schema, "example": of_example});
                (input, properties, vec!["type", "toolName", "inputSchema"])
            }
            Input::Query(_) | Input::Body(..) => return None,
        };
        Some(Call { input: object(input), properties: object(properties), required })
    }
}

/// `info.input`, and what its schema says of its members.
struct Call {
    input: Map<String, Value>,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

/// The schema of a text.
fn text() -> Value {
    json!({"type": "string"})
}

/// The members of an object; none of what is none.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// What stands in a path in the place of a template's names; none where it is not of that template.
fn parameters(template: &str, path: &str) -> Option<Map<String, Value>> {
    let (names, parts) = (template.split('/'), path.split('/'));
    if template.split('/').count() != path.split('/').count() {
        return None;
    }
    let mut found = Map::new();
    for (name, part) in names.zip(parts) {
        match name.strip_prefix(':') {
            Some(name) => drop(found.insert(name.to_owned(), Value::from(part))),
            None if name == part => {}
            None => return None,
        }
    }
    Some(found).filter(|found| !found.is_empty())
}

/// Whether a text can be the name of a service, or a tag: 1 to 32 printable characters of ASCII.
pub fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL_CHARS).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a text is the template of a path, such as `/users/:userId`, by x402's rules: it begins with `/`, has only characters
/// of paths, and leads neither up (`..`) nor elsewhere (`://`), however it is encoded.
pub fn is_route_template(text: &str) -> bool {
    let is_of_paths = |byte: u8| byte.is_ascii_alphanumeric() || b"_/:.-~%".contains(&byte);
    if text.len() < 2 || text.len() > MAX_TEMPLATE_CHARS || !text.starts_with('/') || !text.bytes().all(is_of_paths) {
        return false;
    }
    let mut decoded = text.as_bytes().to_vec();
    for _ in 0..MAX_DECODINGS {
        let Some(next) = percent_decoded(&decoded) else { return false };
        if next == decoded {
            let text = String::from_utf8_lossy(&decoded);
            return !text.contains("..") && !text.contains("://");
        }
        decoded = next;
    }
    false
}

/// Once decoded; none for an escape that is none, or what is no text.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits =
            core::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    core::str::from_utf8(&decoded).ok()?;
    Some(decoded)
}

impl fmt::Display for BodyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_route_by_query_when_it_is_declared_then_its_extension_is_of_the_method_that_is_asked_for() {
        let weather = Discoverable::by_query(json!({"city": "Lisbon"}))
            .input_schema(json!({"properties": {"city": {"type": "string"}}, "required": ["city"]}))
            .output(json!({"celsius": 21}));
        let extension = weather.extension("GET", "/weather").unwrap();
        let input = json!({"type": "http", "method": "GET", "queryParams": {"city": "Lisbon"}});
        assert_eq!(extension["info"], json!({"input": input, "output": {"type": "json", "example": {"celsius": 21}}}));
        let schema = &extension["schema"]["properties"]["input"];
        assert_eq!(schema["properties"]["method"]["enum"], json!(["GET"]));
        assert_eq!(schema["properties"]["queryParams"]["required"], json!(["city"]));
        assert_eq!(extension.get("routeTemplate"), None);
        assert_eq!(weather.extension("POST", "/weather"), None);
    }

    #[test]
    fn given_a_route_with_parts_that_vary_when_it_is_declared_then_they_are_named_and_the_template_is_the_key() {
        let user = Discoverable::by_body(BodyType::Json, json!({"name": "A"})).path("/users/:userId/name");
        let extension = user.extension("PUT", "/users/7/name").unwrap();
        assert_eq!(extension["routeTemplate"], "/users/:userId/name");
        assert_eq!(extension["info"]["input"]["pathParams"], json!({"userId": "7"}));
        for foreign in ["/users/7", "/people/7/name"] {
            let extension = user.extension("PUT", foreign).unwrap();
            assert_eq!(extension["info"]["input"].get("pathParams"), None, "{foreign}");
        }
    }

    #[test]
    fn given_a_tool_when_it_is_declared_then_its_own_schema_is_sent_whatever_the_method() {
        let tool = Discoverable::tool("analyse", json!({"type": "object"})).example(json!({"ticker": "A"}));
        let extension = tool.extension("POST", "/mcp").unwrap();
        let input = json!({"type": "mcp", "toolName": "analyse", "inputSchema": {"type": "object"}, "example": {"ticker": "A"}});
        assert_eq!(extension["info"]["input"], input);
    }

    #[test]
    fn given_a_service_when_it_is_described_then_the_resource_says_so() {
        let mut resource = ResourceInfo { url: "https://a.example/".to_owned(), ..ResourceInfo::default() };
        let of = Discoverable::by_query(json!({})).service("A").tags(["b", "c"]).mime_type("text/plain");
        of.icon("https://a.example/i.png").describe(&mut resource);
        let json = serde_json::to_value(&resource).unwrap();
        assert_eq!(json["serviceName"], "A");
        assert_eq!(json["tags"], json!(["b", "c"]));
        assert_eq!(json["mimeType"], "text/plain");
        assert_eq!(json["iconUrl"], "https://a.example/i.png");
    }

    #[test]
    fn given_what_catalogues_leave_out_when_it_is_checked_then_its_owner_hears_it_first() {
        let route = || Discoverable::by_query(json!({}));
        assert_eq!(route().service("A".repeat(32)).tags(["a"; 5]).path("/a/:b").check(), Ok(()));
        for bad in [
            route().service(""),
            route().service("A".repeat(33)),
            route().service("Ä"),
            route().tags(["a"; 6]),
            route().tags(["a\n"]),
            route().path("users"),
            Discoverable::tool("", json!({})),
        ] {
            assert_eq!(bad.check(), Err(Rejection::MalformedPayload), "{bad:?}");
        }
        assert_eq!(route().output(json!("x".repeat(3_000))).check(), Err(Rejection::RequestTooLarge));
    }

    #[test]
    fn given_a_template_when_it_is_read_then_only_plain_paths_are_one_however_they_are_encoded() {
        for good in ["/users/:userId", "/weather/:country/:city", "/a-b_c.d~e", "/caf%C3%A9"] {
            assert!(is_route_template(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "users/:id",
            "https://evil.example/",
            "/users/../admin",
            "/users/%2e%2e/admin",
            "/%252e%252e/",
            "/a:%2f%2fb",
            "/a b",
            "/ä",
            "/a?b",
            "/%",
            "/%zz",
            "/%ff",
            "/%25252525252525252e%2e",
            "/100%25",
        ] {
            assert!(!is_route_template(bad), "{bad}");
        }
        assert!(!is_route_template(&format!("/{}", "a".repeat(600))));
    }
}
