//! What a message says, as the small clients hold it: JSON texts, kept as they were written.
use bytes::Bytes;
use corsac::model::publication::Properties;
use corsac::model::{self, Encoding, Payload};
use corsac::wire::payload;
use serde_json::value::RawValue;

/// Arguments and keyword arguments. A binary value is WAMP's JSON string of NUL and Base64.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Box<RawValue>>,
    /// Keyword arguments: one JSON object.
    pub kwargs: Option<Box<RawValue>>,
    /// The one argument as it was typed, where that was no JSON: MQTT carries it without quotes.
    text: Option<String>,
}

impl Body {
    /// What was typed: each text an argument, JSON if it parses, else text (an error if `strict`). One empty text is the
    /// empty value. `kwargs` is one JSON object.
    pub fn typed(texts: &[String], kwargs: Option<&str>, strict: bool) -> Result<Self, String> {
        let kwargs = kwargs.map(object).transpose()?.and_then(unless_empty);
        if let [text] = texts {
            if strict && json(text).is_none() {
                return Err(not_json(text));
            }
            return Ok(Body { kwargs, ..Body::of_text(text) });
        }
        let argument = |text: &String| match json(text) {
            None if strict => Err(not_json(text)),
            None => Ok(quoted(text)),
            Some(value) => Ok(value),
        };
        Ok(Body { args: texts.iter().map(argument).collect::<Result<_, _>>()?, kwargs, text: None })
    }

    /// One argument: JSON if it parses, else text; an empty text is the empty value.
    pub fn of_text(text: &str) -> Self {
        match json(text) {
            Some(value) => Body { args: vec![value], ..Body::default() },
            None if text.is_empty() => Body::default(),
            None => Body { args: vec![quoted(text)], kwargs: None, text: Some(text.to_owned()) },
        }
    }

    /// One argument that is text, whatever it looks like.
    pub fn text(text: &str) -> Self {
        Body { args: vec![quoted(text)], ..Body::default() }
    }

    /// What an MQTT message says (MAPPING: Payloads), and its properties say about it.
    pub fn of_message(bytes: Bytes, content_type: Option<&str>, payload_format: Option<bool>) -> Self {
        let properties = Properties { content_type: content_type.map(Into::into), payload_format, ..Properties::default() };
        Body::of_args(&payload::to_args(&Payload::Bytes(bytes), Some(&properties), Encoding::Json))
    }

    /// What a WAMP message says, however it is encoded.
    pub fn of_payload(payload: &Payload) -> Self {
        Body::of_args(&payload::to_args(payload, None, Encoding::Json))
    }

    /// What an event of the history says.
    pub fn of_parts(args: Vec<Box<RawValue>>, kwargs: Box<RawValue>) -> Self {
        Body { args, kwargs: unless_empty(kwargs), text: None }
    }

    /// Arguments in JSON.
    fn of_args(payload: &Payload) -> Self {
        let Payload::Args { args, kwargs, .. } = payload else { return Body::default() };
        let kwargs = serde_json::from_slice(kwargs).ok().and_then(unless_empty);
        Body { args: serde_json::from_slice(args).unwrap_or_default(), kwargs, text: None }
    }

    /// As WAMP carries it.
    pub fn to_payload(&self) -> Payload {
        let args = if self.is_empty() { Bytes::new() } else { self.args_json().into() };
        let kwargs = self.kwargs.as_ref().map_or_else(Bytes::new, |kwargs| kwargs.get().to_owned().into());
        Payload::Args { encoding: Encoding::Json, args, kwargs }
    }

    /// As MQTT carries it (MAPPING: Payloads): a text that is no JSON without quotes, and anything but one value in the form
    /// that becomes the same arguments again.
    pub fn to_message(&self) -> model::payload::Body {
        let json =
            |text: String| model::payload::Body { bytes: text.into(), content_type: Some(payload::JSON_TYPE), is_utf8: true };
        match (&self.text, self.lone()) {
            (Some(text), Some(_)) => model::payload::Body { bytes: text.clone().into(), content_type: None, is_utf8: true },
            (_, None) if !self.is_empty() => json(self.both_json()),
            _ => payload::to_bytes(&self.to_payload(), None),
        }
    }

    /// One line of JSON: the argument, if it is the only one; else the list, the dictionary, or an object of both. `null` if
    /// there is none.
    pub fn json(&self) -> String {
        match (self.lone(), &self.kwargs) {
            (Some(value), _) => compact(value.get()),
            (None, None) if self.args.is_empty() => "null".to_owned(),
            (None, None) => self.args_json(),
            (None, Some(kwargs)) if self.args.is_empty() => compact(kwargs.get()),
            (None, Some(_)) => self.both_json(),
        }
    }

    /// One line of JSON in a form that does not depend on how many arguments there are: the list; or an object of `args` and
    /// `kwargs`, if there are keyword arguments.
    pub fn arguments_json(&self) -> String {
        if self.kwargs.is_some() { self.both_json() } else { self.args_json() }
    }

    /// One line for people: a text without its quotes, as long as it is one line; anything else as JSON. Empty if it says nothing.
    pub fn line(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let text = self.lone().and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        text.filter(|text| !text.chars().any(char::is_control)).unwrap_or_else(|| self.json())
    }

    /// True for the empty value: no arguments of either kind.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty() && self.kwargs.is_none()
    }

    fn lone(&self) -> Option<&RawValue> {
        match (self.args.as_slice(), &self.kwargs) {
            ([value], None) => Some(value),
            _ => None,
        }
    }

    fn args_json(&self) -> String {
        let values: Vec<String> = self.args.iter().map(|value| compact(value.get())).collect();
        format!("[{}]", values.join(","))
    }

    fn both_json(&self) -> String {
        let kwargs = self.kwargs.as_ref().map_or_else(|| "{}".to_owned(), |kwargs| compact(kwargs.get()));
        format!("{{\"args\":{},\"kwargs\":{kwargs}}}", self.args_json())
    }
}

/// The value that `text` spells.
fn json(text: &str) -> Option<Box<RawValue>> {
    serde_json::from_str(text).ok()
}

fn not_json(text: &str) -> String {
    format!("{text:?} is not JSON; quote it as JSON, or leave out --json to send it as text")
}

fn object(text: &str) -> Result<Box<RawValue>, String> {
    json(text)
        .filter(|value| value.get().starts_with('{'))
        .ok_or_else(|| format!("--kwargs must be a JSON object such as '{{\"a\":1}}', not {text:?}"))
}

/// No keyword arguments are none.
fn unless_empty(kwargs: Box<RawValue>) -> Option<Box<RawValue>> {
    (compact(kwargs.get()) != "{}").then_some(kwargs)
}

/// `text` as a JSON string.
fn quoted(text: &str) -> Box<RawValue> {
    // A string can always be written.
    serde_json::value::to_raw_value(text).unwrap_or_default()
}

/// `json` without the white space between its tokens, so that it is one line.
pub fn compact(json: &str) -> String {
    let (mut line, mut is_string, mut is_escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if !is_string && c.is_ascii_whitespace() {
            continue;
        }
        match c {
            '"' if !is_escaped => is_string = !is_string,
            _ => {}
        }
        is_escaped = is_string && c == '\\' && !is_escaped;
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(texts: &[&str], kwargs: Option<&str>) -> Body {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Body::typed(&texts, kwargs, false).unwrap()
    }

    fn of_bytes(bytes: &'static [u8]) -> Body {
        Body::of_message(Bytes::from_static(bytes), None, None)
    }

    #[test]
    fn what_is_typed_becomes_the_forms_of_the_mapping() {
        for (texts, kwargs, bytes, arguments, line) in [
            (&["hello"][..], None, "hello", r#"["hello"]"#, "hello"),
            (&["\"hello\""], None, "\"hello\"", r#"["hello"]"#, "hello"),
            (&["\"5\""], None, "\"5\"", r#"["5"]"#, "5"),
            (&["21.50"], None, "21.50", "[21.50]", "21.50"),
            (
                &[" {\"b\": 1,\n \"a\": \"x \\\" y\"} "],
                None,
                r#"{"b":1,"a":"x \" y"}"#,
                r#"[{"b":1,"a":"x \" y"}]"#,
                r#"{"b":1,"a":"x \" y"}"#,
            ),
            (&["1", "two"], None, r#"{"args":[1,"two"],"kwargs":{}}"#, r#"[1,"two"]"#, r#"[1,"two"]"#),
            (&[], Some("{\"a\":1}"), r#"{"args":[],"kwargs":{"a":1}}"#, r#"{"args":[],"kwargs":{"a":1}}"#, r#"{"a":1}"#),
            (&["x"], Some("{ }"), "x", r#"["x"]"#, "x"),
            (
                &["x"],
                Some("{\"a\":1}"),
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
            ),
            (&[""], None, "", "[]", ""),
            (&["null"], None, "null", "[null]", "null"),
            (&["a\nb"], None, "a\nb", r#"["a\nb"]"#, r#""a\nb""#),
        ] {
            let body = typed(texts, kwargs);
            assert_eq!(body.to_message().bytes, bytes, "{texts:?}");
            assert_eq!(body.arguments_json(), arguments, "{texts:?}");
            assert_eq!(body.line(), line, "{texts:?}");
            assert_eq!(Body::of_payload(&body.to_payload()).line(), line, "{texts:?}");
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [
            &b"\"hello\""[..],
            b"{\"a\":1}",
            b"",
            b"\xff\x00\x01",
            b"[1,2]",
            b"{\"args\":[1],\"kwargs\":{\"b\":2}}",
            b"12345678901234567890123",
        ] {
            assert_eq!(of_bytes(bytes).to_message().bytes, bytes);
        }
        let body = of_bytes(b"{\"args\":[1],\"kwargs\":{\"b\":2}}");
        assert_eq!((body.args.len(), body.kwargs.is_some()), (1, true));
        let body = of_bytes(b"{\"args\":[1],\"kwargs\":{},\"more\":0}");
        assert_eq!((body.args.len(), body.kwargs.is_some()), (1, false));
        assert_eq!(of_bytes(b"\xff").line(), "\"\\u0000/w==\"");
    }

    #[test]
    fn strict_takes_json_only() {
        let texts = ["hello".to_owned()];
        assert!(Body::typed(&texts, None, true).unwrap_err().contains("--json"));
        assert!(Body::typed(&["1".to_owned(), "x".to_owned()], None, true).is_err());
        assert!(Body::typed(&["\"hello\"".to_owned()], None, true).is_ok());
        assert!(Body::typed(&[], Some("[1]"), false).unwrap_err().contains("JSON object"));
    }
}
